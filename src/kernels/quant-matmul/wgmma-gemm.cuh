// What the products of 17 and more rows with Hopper's own instructions (sm_90a) share: D[M, N] = x[M, K] · W[N, K]^T, f16 and bf16,
// M up to 128.
//
//   x  --TMA-->  ring of steps (128 of K)  ----------------------------> wgmma -> sums -> D
//   W  --TMA-->  ring of spans (256 of K)  --> decoded in registers -----^
//                      `--> scales of a span, float32, by two warps, beside it
//
// A block takes 128 rows of W, all rows of x, and one of `splits` parts of K.
// wgmma takes W, its left operand, from registers, 64 rows a warpgroup, where they have been decoded once for all rows of x, and x
// from shared memory. Two warpgroups decode and multiply: while the tensor cores are busy with a chunk (64 of K), its warps decode
// the next. That takes registers, which four producer warps hand over. One warp asks for x, one for W, two make scales; rings, and
// the barriers in them, are all that they and the others wait for.
//
// x lies as it is, so that of eight values in a row (16 bytes of x) lane t of four has two: decoders read them from W as it is stored.
// Gated, W is two planes, and eight rows of gates lie before the eight ups of the same columns: a thread holds both sums.
// Sums: over K in order within a part, then the parts. They depend on N, K and the device, not on M.
// Before the previous kernel has ended: tables, W and scales. Then x, and the end. Needs rows of x that start on 16 bytes.
//
// A Decoder has the layout of a span in shared memory, and how it becomes operands:
//   WIDTH, BOXES     bytes of a row in a box, and boxes side by side, each [128 rows][WIDTH]
//   SCALES, SCALED   float32 a row and chunk; whether they scale sums (one for a row and chunk) or are part of decoding
//   TABLE_BYTES      of shared memory, that fill() makes
//   Source           makes the scales of a row: load(span), then store(to, ...) once the span's bytes have arrived
#pragma once
#include "quant.cuh"
#include "../common/launch.cuh"
#include "../matmul/tensor-core.cuh"
namespace hopper { // in which shared_address is a function
#include "../matmul/hopper-ptx.cuh"
}

#ifdef VARIANT_ROWS
constexpr int BM = VARIANT_ROWS;
#else
constexpr int BM = 128; // and fewer instructions where x has no more than 64
#endif
constexpr int BN = 128, TILES = BM / 64; // BM rows of x, at most, and BN of W; 64 rows of x are an instruction's
constexpr int WARPS = 8, CONSUMERS = 32 * WARPS, PRODUCERS = 128, THREADS = CONSUMERS + PRODUCERS;
constexpr int SCALE_WARPS = 2, SCALE_ROWS = BN / 32; // take spans in turns; rows of W that a thread makes scales for
constexpr int STEP = 2 * CHUNK;
constexpr int X_TILE = 64 * CHUNK * 2, X_STAGE = 2 * TILES * X_TILE; // of a step two chunks for each tile
constexpr int BARRIERS_BYTES = 1024; // and what follows starts where the swizzle wants it
enum Barriers { FULL_X = 0, EMPTY_X = 64, FULL_W = 128, EMPTY_W = 192, SCALED_W = 256 }; // bytes; of up to eight stages each
using Column = Columns<BN, 16>;

// A place in a ring.
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

// A chunk as the left operand: of each 16 k, {row g, k 2t} {row g+8, k 2t} {row g, k 2t+8} {row g+8, k 2t+8}, with right neighbours.
typedef u32 Operand[4][4];
typedef float Sums[TILES][32];
__device__ __forceinline__ void pin_operand(Operand& a) {
#pragma unroll
  for (int i = 0; i < 16; i++) asm volatile("" : "+r"(a[i / 4][i % 4])::"memory");
}
// Has an operand computed here and not later: the assembler cannot know that it is never stored. `rows`: more than none.
__device__ __forceinline__ void finish_operand(const Operand& a, int rows) {
#pragma unroll
  for (int i = 0; i < 4; i++) {
    asm volatile("{\n.reg .pred never;\nsetp.lt.s32 never, %0, 0;\n@never st.shared.v4.u32 [%0], {%1, %2, %3, %4};\n}" ::"r"(rows),
                 "r"(a[i][0]), "r"(a[i][1]), "r"(a[i][2]), "r"(a[i][3])
                 : "memory");
  }
}

template <class Decoder>
struct WideBlock {
  static constexpr int BOX_BYTES = BN * Decoder::WIDTH;
  static constexpr int CODES = Decoder::BOXES * BOX_BYTES;
  static constexpr int W_STAGE = CODES + 4 * BN * 4 * Decoder::SCALES; // four chunks, float32
  static_assert(CODES % 1024 == 0 && W_STAGE % 1024 == 0, "stages start where the swizzle wants them");

  const Problem& p;
  float* parts; // [splits, M, rows of W], where there is more than one
  int xStages, wStages;
  u8 *xRing, *wRing;
  u32 barriers;
  int first, end; // spans
  Column columns;

  __device__ __forceinline__ WideBlock(const Problem& p_, float* parts_, int xStages_, int wStages_, u8* shared)
      : p(p_), parts(parts_), xStages(xStages_), wStages(wStages_), xRing(shared + Decoder::TABLE_BYTES + BARRIERS_BYTES),
        wRing(xRing + xStages_ * X_STAGE), barriers(to_shared(shared + Decoder::TABLE_BYTES)), columns(p_, blockIdx.x) {
    const u32 spans = tiles_of(p.k, SPAN);
    first = spans * blockIdx.y / gridDim.y;
    end = spans * (blockIdx.y + 1) / gridDim.y;
  }
  __device__ __forceinline__ u32 barrier(Barriers of, const Stage& stage) const { return barriers + of + 8 * stage.at; }

  // Of one stage: a thread each.
  __device__ __forceinline__ void init_barriers(int stage) const {
    const Stage at = {stage};
    hopper::barrier_init(barrier(FULL_X, at), 1);
    hopper::barrier_init(barrier(EMPTY_X, at), WARPS);
    hopper::barrier_init(barrier(FULL_W, at), 1);
    hopper::barrier_init(barrier(EMPTY_W, at), WARPS);
    hopper::barrier_init(barrier(SCALED_W, at), 1);
    hopper::barrier_init_fence();
  }

  // ---- producers: one lane each for x and W. A fresh ring counts as empty.
  __device__ __forceinline__ void bring_x(const hopper::TensorMap& map) const {
    hopper::wait_for_previous_kernel(); // which may still be writing x
    const int tiles = tiles_of(p.m, 64);
    Stage x;
    for (int step = 2 * first; step < 2 * end; step++, x.advance(xStages)) {
      hopper::barrier_wait_block(barrier(EMPTY_X, x), x.parity ^ 1);
      hopper::barrier_expect_bytes(barrier(FULL_X, x), 2 * tiles * X_TILE);
      for (int i = 0; i < 2 * tiles; i++) { // the chunks of a tile lie together
        const u32 to = to_shared(xRing + x.at * X_STAGE + i * X_TILE);
        hopper::load_box(to, &map, i / 2 * 64, step * STEP + i % 2 * CHUNK, barrier(FULL_X, x));
      }
    }
  }
  // Boxes of all rows; gated, of eight rows of both planes.
  __device__ __forceinline__ void bring_w(const hopper::TensorMap& map) const {
    const int rows = p.has(GATED) ? 8 : BN, boxes = p.has(GATED) ? BN / 16 : 1;
    Stage w;
    for (int span = first; span < end; span++, w.advance(wStages)) {
      const int row = columns.first, byte = Decoder::first_byte(span);
      hopper::barrier_wait_block(barrier(EMPTY_W, w), w.parity ^ 1);
      hopper::barrier_expect_bytes(barrier(FULL_W, w), CODES);
      for (int side = 0; side < Decoder::BOXES; side++) {
        for (int i = 0; i < boxes; i++) {
          const u32 to = to_shared(wRing + w.at * W_STAGE + side * BOX_BYTES + i * 16 * Decoder::WIDTH);
          hopper::load_box(to, &map, 0, row + rows * i, byte + side * Decoder::BOX_STEP, barrier(FULL_W, w));
        }
      }
    }
  }
  // A whole warp, of every second span: each thread the scales of every 32nd row.
  __device__ __forceinline__ void make_scales(typename Decoder::Source source, int turn) const {
    const int lane = threadIdx.x % 32;
    i64 rows[SCALE_ROWS]; // row 0 behind one that does not exist, which nobody reads
#pragma unroll
    for (int i = 0; i < SCALE_ROWS; i++) rows[i] = columns.in_d(lane + 32 * i) < p.n ? columns.in_b(lane + 32 * i) : 0;
    if (first + turn < end) source.load(p, rows, first + turn);
    Stage w;
    for (int span = first; span < end; span++, w.advance(wStages)) {
      hopper::barrier_wait_block(barrier(FULL_W, w), w.parity); // for every span: who skips a phase takes an old one for it
      if ((span - first) % SCALE_WARPS != turn) continue;
      u8* stage = wRing + w.at * W_STAGE;
#pragma unroll(Decoder::Source::ROLLED ? 1 : SCALE_ROWS)
      for (int i = 0; i < SCALE_ROWS; i++) {
        const int c = lane + 32 * i;
        source.store(reinterpret_cast<float*>(stage + CODES) + c * Decoder::SCALES, stage + c * Decoder::WIDTH, i, span);
      }
      __syncwarp();
      if (lane == 0) hopper::barrier_arrive(barrier(SCALED_W, w));
      if (span + SCALE_WARPS < end) source.load(p, rows, span + SCALE_WARPS);
    }
  }

  // ---- consumers
  // Chunk c of the span at `w`, decoded; the span's place is free after its last.
  __device__ __forceinline__ void decode(const Decoder& decoder, Operand& a, float (&scale)[2], Stage& w, int span, int c) const {
    if (c == 0) {
      hopper::barrier_wait_block(barrier(FULL_W, w), w.parity);
      hopper::barrier_wait_block(barrier(SCALED_W, w), w.parity);
    }
    const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4;
    const u8* stage = wRing + w.at * W_STAGE;
    const float* scales = reinterpret_cast<const float*>(stage + CODES) + (c * BN + 16 * warp + g) * Decoder::SCALES;
    decoder.decode(a, stage + (16 * warp + g) * Decoder::WIDTH, scales, span, c);
    if constexpr (Decoder::SCALED) {
      scale[0] = scales[0];
      scale[1] = scales[8];
    } else {
      finish_operand(a, p.m); // while the tensor cores are busy
    }
    if (c < 3) return;
    __syncwarp();
    if (threadIdx.x % 32 == 0) hopper::barrier_arrive(barrier(EMPTY_W, w));
    w.advance(wStages);
  }
  __device__ __forceinline__ void multiply(Sums& sums, const Operand& a, const Stage& x, int c, bool accumulate) const {
    if (c == 0) hopper::barrier_wait_block(barrier(FULL_X, x), x.parity);
    // From one lane, or the compiler does not see that all have the same, and hands it over anew for every instruction.
    const u32 tiles = __shfl_sync(0xffffffffu, to_shared(xRing + x.at * X_STAGE + c * X_TILE), 0);
    const u64 chunk = hopper::tile_descriptor(tiles);
#ifdef VARIANT_ROWS
    multiply_tiles<TILES>(sums, a, chunk, accumulate);
#else
    if (p.m > 64) multiply_tiles<2>(sums, a, chunk, accumulate);
    else multiply_tiles<1>(sums, a, chunk, accumulate);
#endif
    __syncwarp(); // or the compiler moves what decodes the next chunk between these, and the last of them waits for it
  }
  template <int COUNT>
  static __device__ __forceinline__ void multiply_tiles(Sums& sums, const Operand& a, u64 chunk, bool accumulate) {
    hopper::wgmma_fence();
#pragma unroll
    for (int tile = 0; tile < COUNT; tile++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        wgmma_registers(sums[tile], a[i], chunk + tile * (2 * X_TILE >> 4) + i * hopper::kDescriptorStepK16, accumulate || i > 0);
      }
    }
    hopper::wgmma_commit();
  }
  // Until the chunk has been multiplied: what its instructions read and write is the compiler's again.
  __device__ __forceinline__ void wait(Sums& sums, Operand& a, Stage& x, int c) const {
    hopper::wgmma_wait<0>();
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) hopper::pin_registers(sums[tile]);
    pin_operand(a);
    if (c == 0) return;
    __syncwarp();
    if (threadIdx.x % 32 == 0) hopper::barrier_arrive(barrier(EMPTY_X, x));
    x.advance(xStages);
  }

  // Sums of values stay where the tensor cores add; those of levels are a chunk's, and times its scales they are added in float32.
  __device__ __forceinline__ void add_up(const Decoder& decoder, Sums& total) const {
    // Chunks written out one after another. Levels: a whole span, since waits that are branches cost a fifth of the time; values: two,
    // where it costs little, and a driver has half as much to compile.
    constexpr int CHUNKS = Decoder::SCALED ? 4 : 2, STEPS = 4 / CHUNKS;
    Stage x, w;
    Operand a[2];
    float scale[2][2];
    [[maybe_unused]] Sums sums;
    decode(decoder, a[0], scale[0], w, first, 0);
#pragma unroll 1
    for (int step = STEPS * first; step < STEPS * end; step++) {
#pragma unroll
      for (int c = 0; c < CHUNKS; c++) {
        const int now = c % 2, next = 1 - now;
        multiply(Decoder::SCALED ? sums : total, a[now], x, now, !Decoder::SCALED);
        const int then = step + (c + 1) / CHUNKS; // of the chunk after it
        if (c + 1 < CHUNKS || then < STEPS * end) {
          decode(decoder, a[next], scale[next], w, then / STEPS, then % STEPS * CHUNKS + (c + 1) % CHUNKS);
        }
        wait(Decoder::SCALED ? sums : total, a[now], x, now);
        if constexpr (Decoder::SCALED) {
#pragma unroll
          for (int i = 0; i < TILES; i++) {
#pragma unroll
            for (int j = 0; j < 32; j++) total[i][j] = fmaf(scale[now][j % 4 / 2], sums[i][j], total[i][j]);
          }
        }
      }
    }
  }

  // A part's sums, all stores at once: eight lanes have eight neighbours of a row.
  __device__ __forceinline__ void store_part(const Sums& total) const {
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const int column = columns.in_d(threadIdx.x / 32 * 16 + g); // and, with no gate, the one eight further
    const bool gated = p.has(GATED), two = gated || column + 8 < p.n;
    const i64 width = gated ? 2 * i64(p.n) : p.n, other = gated ? p.n : 8;
    if (column >= p.n) return;
    float* to = parts + (i64(blockIdx.y) * p.m + 2 * t) * width + column;
#pragma unroll
    for (int eight = 0; eight < BM / 8; eight++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        if (8 * eight + 2 * t + i >= p.m) return;
        const float* four = &total[eight / 8][eight % 8 * 4];
        to[i * width] = four[i];
        if (two) to[i * width + other] = four[2 + i];
      }
      to += 8 * width;
    }
  }

  // D. Rolled: sums move down by four instead.
  __device__ __forceinline__ void finish(Sums& total) const {
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const int column = columns.in_d(threadIdx.x / 32 * 16 + g); // and, with no gate, the one eight further
    if (column >= p.n) return;
    float(&flat)[32 * TILES] = reinterpret_cast<float(&)[32 * TILES]>(total);
#pragma unroll 1
    for (int eight = 0; eight < p.m; eight += 8) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        if (eight + 2 * t + i < p.m) end_row(eight + 2 * t + i, column, flat[i], flat[2 + i]);
      }
#pragma unroll
      for (int i = 0; i < 32 * TILES - 4; i++) flat[i] = flat[i + 4];
    }
  }
  __device__ __forceinline__ void end_row(int row, int column, float low, float high) const {
    if (p.has(GATED)) {
      p.finish_gated(row, column, low, high);
    } else {
      p.finish(row, column, low);
      if (column + 8 < p.n) p.finish(row, column + 8, high);
    }
  }

  __device__ __forceinline__ void run(const hopper::TensorMap& xMap, const hopper::TensorMap& wMap, Decoder& decoder,
                                      const typename Decoder::Source& source) const {
    if (threadIdx.x < 8) init_barriers(threadIdx.x);
    if (threadIdx.x == CONSUMERS) hopper::prefetch_map(&xMap);
    if (threadIdx.x == CONSUMERS + 32) hopper::prefetch_map(&wMap);
    allow_next();
    __syncthreads();
    const int producer = int(threadIdx.x / 32) - WARPS;
    if (producer >= 0) {
      hopper::registers_shrink<88>();
      if (producer == 0 && threadIdx.x % 32 == 0) bring_x(xMap);
      if (producer == 1 && threadIdx.x % 32 == 0) bring_w(wMap);
      if (producer >= 2) make_scales(source, producer - 2);
    } else {
      hopper::registers_grow<208>();
      if constexpr (Decoder::TABLE_BYTES > 0) {
        decoder.fill();
        asm volatile("bar.sync 1, %0;" ::"n"(CONSUMERS) : "memory");
      }
      Sums total = {};
      add_up(decoder, total);
      hopper::wait_for_previous_kernel();
      if (gridDim.y > 1) store_part(total);
      else finish(total);
    }
  }
};
