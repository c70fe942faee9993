// 17 and more rows times a weight in 4-bit codes with Hopper's own instructions (sm_90a): D[M, N] = x[M, K] · W[N, K]^T, f16 and
// bf16. Tiles, slices of K, splits and the order of sums are those of quant-gemm.cuh; the results' bits are its own.
//
//   producers --TMA--> rings of x and W in shared memory --> 4 warpgroups: decode, wgmma, scale --> epilogue
//
// wgmma reads x from shared memory once for 64 rows of W, where mma.sync reads it for 16, and one instruction multiplies 64 x 64 x 16.
// W, its left operand, comes from registers, where a warp has decoded it: 16 rows each, the levels of 64 values, whose sums are
// multiplied by absmax and added up in float32. Two warpgroups for the halves of the tile, times two for the slices of K; none
// waits for another, only for its operands: while one multiplies, others decode.
// x lies as wgmma wants it, in natural order, so that of W every lane takes every fourth byte: it reads 32 bytes of a row, as its
// three neighbours do, and shifts.
// The producers ask the copy engine for boxes, x of a step (128 elements of K), W of a span (256), and bring a span's absmax themselves.
// Before the previous kernel has ended: tables, W and absmax. Then x, and the end.
// Needs K a multiple of 64, blocks of 64 values or more, rows of x that start on 16 bytes. Block: 640 threads; shared memory:
// wgmmaBlock in gemm-layout.ts.
#include "gemm-place.cuh"
#include "code4-table.cuh"
namespace hopper { // in which shared_address is a function
#include "../matmul/hopper-ptx.cuh"
}

constexpr int SLICES = 2, STEP = SLICES * CHUNK;
constexpr int WARPS = 16, THREADS = 32 * WARPS; // that multiply
constexpr int PRODUCERS = 128;
static_assert(WARPS == BN / 16 * SLICES, "a warp has 16 rows of W and one slice of K");
constexpr int SUMS = BM / 2; // of a thread
constexpr int X_CHUNK = BM * CHUNK * 2, X_STAGE = SLICES * X_CHUNK;
constexpr int CODES = BN * SPAN / 2, SCALES = BN * (SPAN / CHUNK); // of a span: bytes, and floats
constexpr int W_STAGE = CODES + 4 * SCALES;
constexpr int BARRIERS_BYTES = 1024;
static_assert(SLICES * BM * SUMS_ROW * 4 <= 6 * X_STAGE, "the sums take the place of x: wgmmaBlock gives it six stages");
enum Barriers { FULL_X = 0, EMPTY_X = 64, FULL_W = 128, EMPTY_W = 192 }; // bytes; of up to eight stages each

// d[64 rows of W, 64 rows of x] (+)= a · x^T over 16 k, a in registers.
__device__ __forceinline__ void wgmma_registers(float (&d)[32], const u32 (&a)[4], u64 x, bool accumulate) {
#define WGMMA_REGISTERS(types)                                                                                        \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"                                                           \
               "wgmma.mma_async.sync.aligned.m64n64k16.f32." types " {" REGISTERS_32 "}, {%32,%33,%34,%35}, %36, p, 1, 1, 0;\n}" \
               : THIRTY_TWO(d, 0)                                                                                     \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(x), "r"(int(accumulate)))
  if constexpr (is_same<scalar_t, bf16>) WGMMA_REGISTERS("bf16.bf16");
  else WGMMA_REGISTERS("f16.f16");
}

// A chunk of row g (or g + 8) of a warp: 32 bytes, which four lanes read together. Of every word lane t takes byte t: values
// 2t and 2t + 1 of eight, as the fragments of the multiplication have them.
__device__ __forceinline__ void decode_row(u32 (&a)[4][4], int half, const u8* shared, u32 chunk, u32 rotation, u32 mine) {
  const uint4 first = *reinterpret_cast<const uint4*>(shared + chunk);
  const uint4 second = *reinterpret_cast<const uint4*>(shared + (chunk ^ 16u));
  const u32 words[8] = {first.x, first.y, first.z, first.w, second.x, second.y, second.z, second.w};
#pragma unroll
  for (int j = 0; j < 8; j++) {
    const u32 at = (__funnelshift_l(words[j], words[j], rotation) & 0x7f80u) | mine;
    a[j / 2][j % 2 * 2 + half] = *reinterpret_cast<const u32*>(shared + at); // the table is where it begins
  }
}

struct Stage {
  int at = 0;
  u32 parity = 0;
  __device__ __forceinline__ void advance(int stages) {
    if (++at == stages) {
      at = 0;
      parity ^= 1;
    }
  }
};

__device__ __forceinline__ void arrive(u32 barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

__device__ __forceinline__ void wait_for_consumers() { asm volatile("bar.sync 1, %0;" ::"n"(THREADS) : "memory"); }

// Absmax of a span, [4 chunks][128 rows] as float32: the four values of one row, loaded a span ahead.
struct ScaleLoader {
  static constexpr int COUNT = SPAN / CHUNK;
  static_assert(PRODUCERS == BN, "a row each");
  const Absmax& scales;
  i64 first; // element of the row
  float value[COUNT], block[COUNT];

  // Past the end of K: the row's last block.
  __device__ __forceinline__ void load(const Problem& p, int span) {
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
      const i64 b = (first + min(SPAN * span + CHUNK * i, p.k - CHUNK)) >> scales.shift;
      if (scales.nestedAbsmax) {
        value[i] = __uint_as_float(static_cast<const u8*>(scales.values)[b]);
        block[i] = scales.nestedAbsmax[b >> 8];
      } else {
        value[i] = static_cast<const float*>(scales.values)[b];
      }
    }
  }
  __device__ __forceinline__ void store(float* to) const {
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
      to[BN * i] =
          scales.nestedAbsmax ? __fadd_rn(__fmul_rn(scales.nestedCode[__float_as_uint(value[i])], block[i]), scales.nestedOffset) : value[i];
    }
  }
};

extern "C" __global__ void __launch_bounds__(THREADS + PRODUCERS, 1)
    KERNEL_NAME(const __grid_constant__ hopper::TensorMap xMap, const __grid_constant__ hopper::TensorMap wMap, QUANT_PARAMETERS,
                float* parts, int splits, int xStages, int wStages) {
  QUANT_PROBLEM
  p.alpha = 1.0f / levelScale;
  extern __shared__ __align__(1024) u8 shared[];
  const Place place(p, BM);
  const Column columns(p, place.tile);
  const Part<STEP> part(p.k, splits);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const shared_address barriers = to_shared(shared + TABLE_BYTES);
  u8* xRing = shared + TABLE_BYTES + BARRIERS_BYTES;
  u8* wRing = xRing + xStages * X_STAGE;

  if (threadIdx.x == 0) {
    for (int i = 0; i < 8; i++) {
      hopper::barrier_init(barriers + FULL_X + 8 * i, 1);
      hopper::barrier_init(barriers + EMPTY_X + 8 * i, WARPS);
      hopper::barrier_init(barriers + FULL_W + 8 * i, 1 + PRODUCERS / 32); // the copy engine's bytes, and absmax
      hopper::barrier_init(barriers + EMPTY_W + 8 * i, WARPS);
    }
    hopper::barrier_init_fence();
  }
  allow_next();
  __syncthreads();

  if (warp >= WARPS) {
    const int row = threadIdx.x - THREADS;
    const Absmax scales = CODE4_ABSMAX;
    ScaleLoader loader = {scales, existing_row(p, columns, row) * p.k};
    loader.load(p, part.firstSpan);
    Stage x, w;
    for (int span = part.firstSpan; span < part.endSpan; span++) {
      u8* stage = wRing + w.at * W_STAGE;
      const u32 ready = barriers + FULL_W + 8 * w.at;
      hopper::barrier_wait(barriers + EMPTY_W + 8 * w.at, w.parity ^ 1); // a fresh ring counts as empty
      if (row == 0) {
        hopper::barrier_expect_bytes(ready, CODES);
        for (int i = 0; i < BN / 16; i++) { // sixteen rows at a time: with a gate, gates and ups in turn
          hopper::load_box(to_shared(stage + 16 * i * (SPAN / 2)), &wMap, int(columns.in_b(16 * i)), span * (SPAN / 2), ready);
        }
      }
      loader.store(reinterpret_cast<float*>(stage + CODES) + row);
      __syncwarp();
      if (lane == 0) arrive(ready);
      if (span + 1 < part.endSpan) loader.load(p, span + 1);
      w.advance(wStages);
      if (warp != WARPS) continue;
      if (span == part.firstSpan) hopper::wait_for_previous_kernel(); // which may still be writing x
      for (int step = 2 * span; step < min(2 * span + 2, part.end); step++, x.advance(xStages)) {
        const u32 readyX = barriers + FULL_X + 8 * x.at;
        hopper::barrier_wait(barriers + EMPTY_X + 8 * x.at, x.parity ^ 1);
        if (lane != 0) continue;
        hopper::barrier_expect_bytes(readyX, X_STAGE);
        for (int s = 0; s < SLICES; s++) {
          hopper::load_box(to_shared(xRing + x.at * X_STAGE + s * X_CHUNK), &xMap, place.row0, STEP * step + CHUNK * s, readyX);
        }
      }
    }
  } else {
    fill_tables<THREADS>(shared, code, levelScale, nullptr);
    wait_for_consumers();
    const int slice = warp / (WARPS / SLICES), warpColumn = warp % (WARPS / SLICES) * 16;
    const u32 rotation = 39 - t * 8, mine = 4 * lane; // byte t to bits 7..14; modulo 32
    // The copy engine's swizzle: 16-byte unit u of row r lies at u ^ (r % 8).
    const u32 codes = u32(wRing - shared) + (warpColumn + g) * (SPAN / 2) + 16 * (2 * slice ^ g);
    const float* absmaxes = reinterpret_cast<const float*>(wRing + CODES) + slice * BN + warpColumn + g;
    const u64 xTile = hopper::tile_descriptor(to_shared(xRing + slice * X_CHUNK));
    float total[SUMS] = {};
    Stage x, w;
    for (int step = part.first; step < part.end; step++) {
      const bool second = step % 2;
      const int stage = w.at * W_STAGE;
      if (!second) hopper::barrier_wait(barriers + FULL_W + 8 * w.at, w.parity);
      u32 a[4][4];
      const u32 chunk = (codes + stage) ^ (second ? 64u : 0u);
      decode_row(a, 0, shared, chunk, rotation, mine);
      decode_row(a, 1, shared, chunk + 8 * (SPAN / 2), rotation, mine);
      hopper::barrier_wait(barriers + FULL_X + 8 * x.at, x.parity);
      float sum[SUMS];
      hopper::wgmma_fence();
#pragma unroll
      for (int i = 0; i < 4; i++) {
        wgmma_registers(sum, a[i], xTile + x.at * (X_STAGE >> 4) + i * hopper::kDescriptorStepK16, i > 0);
      }
      hopper::wgmma_commit();
      const float* scales = absmaxes + stage / 4 + (second ? SLICES * BN : 0);
      const float low = scales[0], high = scales[8];
      hopper::wgmma_wait<0>();
      hopper::pin_registers(sum);
      __syncwarp();
      if (lane == 0) {
        arrive(barriers + EMPTY_X + 8 * x.at);
        if (second) arrive(barriers + EMPTY_W + 8 * w.at);
      }
      x.advance(xStages);
      if (second) w.advance(wStages);
#pragma unroll
      for (int i = 0; i < SUMS; i++) total[i] = fmaf(i % 4 < 2 ? low : high, sum[i], total[i]);
    }

    // ---- the rings are free and take the sums, [slice][row of x][row of W]. Not the barriers before them: the hardware may touch
    // those as long as they have not been declared invalid, which was seen when several processes share a GPU.
    hopper::wait_for_previous_kernel();
    wait_for_consumers();
    float* sums = reinterpret_cast<float*>(xRing);
    float* to = sums + slice * BM * SUMS_ROW + warpColumn + g;
#pragma unroll
    for (int i = 0; i < SUMS; i++) to[(i / 4 * 8 + 2 * t + i % 2) * SUMS_ROW + i % 4 / 2 * 8] = total[i];
    wait_for_consumers();
    if (splits == 1) finish_tile<BM, BN, WN, THREADS, SUMS_ROW, SLICES>(p, columns, place.row0, sums);
    else store_part<THREADS, BM, SLICES>(p, place, columns, place.row0, sums, parts);
  }
}
