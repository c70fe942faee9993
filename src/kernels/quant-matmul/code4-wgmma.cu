// 17 and more rows times a weight in 4-bit codes with Hopper's own instructions (sm_90a): D[M, N] = x[M, K] · W[N, K]^T, f16 and
// bf16. Tiles, slices of K, splits and the order of sums are those of quant-gemm.cuh; the results' bits are its own.
//
// wgmma reads x from shared memory once for 64 rows of W, where mma.sync reads it for 16, and one instruction multiplies 64 x 64 x 16.
// W, its left operand, comes from registers, where a warp has decoded it: 16 rows each, the levels of 64 values, whose sums are
// multiplied by absmax and added up in float32. Four warpgroups: two halves of the tile times two slices of K.
// x lies as wgmma wants it, in natural order, so that of W every lane takes every fourth byte: it reads 32 bytes of a row, as its
// three neighbours do, and shifts.
// Needs K a multiple of 64, blocks of 64 values or more, rows of x that start on 16 bytes. Block: 512 threads; shared memory: gemmBlock
// in gemm-layout.ts.
#include "gemm-rings.cuh"
#include "code4-loader.cuh"
namespace hopper { // in which shared_address is a function
#include "../matmul/hopper-ptx.cuh"
}

constexpr int WARPS = 16, THREADS = 32 * WARPS;
static_assert(WARPS == BN / 16 * SLICES, "a warp has 16 rows of W and one slice of K");
constexpr int SUMS = BM / 2; // of a thread

struct WgmmaLayout {
  static constexpr int THREADS = ::THREADS;
  static constexpr bool ASYNC_PROXY = true;
  static __device__ __forceinline__ int swizzle(int row) { return row % 8; }
};

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
__device__ __forceinline__ void decode_row(u32 (&a)[4][4], int half, const u8* row, int c, int swizzle, const u8* table) {
  const int lane = threadIdx.x % 32, rotation = 39 - lane % 4 * 8; // byte t to bits 7..14; modulo 32
  const uint4 first = *reinterpret_cast<const uint4*>(row + 16 * (2 * c ^ swizzle));
  const uint4 second = *reinterpret_cast<const uint4*>(row + 16 * ((2 * c ^ swizzle) | 1));
  const u32 words[8] = {first.x, first.y, first.z, first.w, second.x, second.y, second.z, second.w};
#pragma unroll
  for (int j = 0; j < 8; j++) {
    const u32 at = (__funnelshift_l(words[j], words[j], rotation) & 0x7f80u) | u32(4 * lane);
    a[j / 2][j % 2 * 2 + half] = *reinterpret_cast<const u32*>(table + at);
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    KERNEL_NAME(QUANT_PARAMETERS, float* parts, int splits, int passRows, int xStages, int wStages) {
  QUANT_PROBLEM
  p.alpha = 1.0f / levelScale;
  extern __shared__ __align__(1024) u8 shared[];
  const Place place(p, passRows);
  const Column columns(p, place.tile);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int slice = warp / (WARPS / SLICES), warpColumn = warp % (WARPS / SLICES) * 16;

  const Part<STEP> part(p.k, splits);
  Rings<WgmmaLayout> rings(p, place, part, shared + LOADER_BYTES, passRows, xStages, wStages, BN * ROW_BYTES);
  const CodeCopies<THREADS> copies(p, weight, columns);
  const auto copy_span = [&](shared_address stage, int span) { copies.start(p, stage, span); };
  SpanScales<THREADS> scales(CODE4_ABSMAX, p, columns, shared, part.firstSpan);
  fill_tables<THREADS>(shared, code, levelScale, nestedCode);
  hopper::wait_for_previous_kernel();
  rings.fill(p, copy_span);

  float total[SUMS] = {};
#pragma unroll 1
  for (int step = part.first; step < part.end; step++) {
    rings.advance(p, step, copy_span);
    if (step % 2 == 0) scales.advance(step / 2);
    if (STEP * step + CHUNK * slice >= p.k) continue;
    const int c = step % 2 * SLICES + slice;
    u32 a[4][4];
    const u8* codes = rings.w_stage() + (warpColumn + g) * ROW_BYTES;
    decode_row(a, 0, codes, c, (g & 3) << 1, shared);
    decode_row(a, 1, codes + 8 * ROW_BYTES, c, (g & 3) << 1, shared);
    const u64 x = hopper::tile_descriptor(to_shared(rings.x_chunk(slice)));
    float sum[SUMS];
    hopper::wgmma_fence();
#pragma unroll
    for (int i = 0; i < 4; i++) wgmma_registers(sum, a[i], x + i * hopper::kDescriptorStepK16, i > 0);
    hopper::wgmma_commit();
    const float* absmaxes = scales.at(step / 2) + c * BN + warpColumn + g;
    const float low = absmaxes[0], high = absmaxes[8];
    hopper::wgmma_wait<0>();
    hopper::pin_registers(sum);
#pragma unroll
    for (int i = 0; i < SUMS; i++) total[i] = fmaf(i % 4 < 2 ? low : high, sum[i], total[i]);
  }

  // ---- the rings are free and take the sums, [slice][row of x][row of W]
  wait_copies<0>();
  __syncthreads();
  float* sums = reinterpret_cast<float*>(shared);
  float* mine = sums + slice * BM * SUMS_ROW + warpColumn + g;
#pragma unroll
  for (int i = 0; i < SUMS; i++) mine[(i / 4 * 8 + 2 * t + i % 2) * SUMS_ROW + i % 4 / 2 * 8] = total[i];
  __syncthreads();
  if (splits == 1) finish_tile<BM, BN, WN, THREADS, SUMS_ROW, SLICES>(p, columns, place.row0, sums);
  else store_part<THREADS, BM, SLICES>(p, place, columns, place.row0, sums, parts);
}
