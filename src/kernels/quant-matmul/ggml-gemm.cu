// 17 and more rows times a weight in GGML blocks on the tensor cores: D[M, N] = x[M, K] · W[N, K]^T, f16 and bf16, sm_80 and
// newer. See quant-gemm.cuh for how warps divide the work, ../ggml/blocks.cuh for the types.
//
// A chunk's values are decoded to 16 bits, rounded once from float32 as when the weight is dequantized (affine.cuh), and multiplied
// as such: a scale for every 16 or 32 values would cost more on sums than on values from 17 rows on.
// Bound by decoding: a value takes 3 to 5 operations and a pair a conversion, once for 64 rows of x.
// All types are one kernel: what differs is chosen once in a chunk, and the loop is most of what the driver compiles.
// Needs K a multiple of the type's block. Shared memory: gemmLayout and gemmBlock in gemm-layout.ts.
#include "quant-gemm.cuh"
#include "affine.cuh"

constexpr int ROW_STEP = THREADS / UNITS, ROW_COPIES = BN / ROW_STEP;
constexpr int TABLE_FLOATS = WARP_ROWS * 8; // a warp's scales of a chunk: of 16 rows, at most four groups of scale and min

// One thread's share of the copies of a span: every eighth 16-byte piece of every 32nd row. A row's pieces are those that its
// span touches; decoding starts `skew` bytes into the first.
struct BlockCopies {
  const u8* row[ROW_COPIES];
  const u8* end; // of W: the last piece may be short
  u32 to, pitch;

  __device__ __forceinline__ BlockCopies(const Problem& p, const Column& columns, const u8* weight, i64 weightBytes,
                                         i64 rowBytes, u32 pitch_)
      : end(weight + weightBytes), pitch(pitch_) {
    const int line = threadIdx.x / UNITS;
    to = line * pitch + 16 * (threadIdx.x % UNITS);
#pragma unroll
    for (int i = 0; i < ROW_COPIES; i++) row[i] = weight + existing_row(p, columns, line + ROW_STEP * i) * rowBytes;
  }
  __device__ __forceinline__ void start(shared_address stage, i64 first, u32 length) const {
    const u32 unit = 16 * (threadIdx.x % UNITS);
#pragma unroll
    for (int i = 0; i < ROW_COPIES; i++) {
      const u8* begin = row[i] + first;
      const u32 skew = u32(reinterpret_cast<u64>(begin)) & 15u;
      const u8* from = begin - skew + unit;
      const u32 left = u32(min(i64(end - from), i64(4096)));
#pragma unroll
      for (u32 at = 0; at < 3 * ROW_BYTES; at += ROW_BYTES) { // at most 19 pieces
        if (unit + at < length + skew) copy_async(stage + to + i * ROW_STEP * pitch + at, from + at, min(16u, left - at));
      }
    }
  }
};

// A chunk of 16 rows of W to values. own: the span of row lane % 16; rows: those that the lane multiplies; k: elements of the
// chunk that exist.
template <class F>
__device__ __forceinline__ void decode_chunk(u32 (&w)[2][8], float* table, const u8* own, const u8* const (&rows)[2], int c,
                                             int k) {
  constexpr int GROUPS = CHUNK / F::GROUP, PARTS = F::HAS_MIN ? 2 : 1;
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  constexpr int LANES = 32 / WARP_ROWS; // of a row
#pragma unroll
  for (int j = 0; j < GROUPS / LANES; j++) {
    const int row = lane % WARP_ROWS, i = j * LANES + lane / WARP_ROWS;
    Scale s = {0.0f, 0.0f}; // past the end of K
    if (F::GROUP * i < k) s = F::scale_of(own, GROUPS * c + i);
    float* to = table + (row * GROUPS + i) * PARTS;
    to[0] = s.scale;
    if constexpr (F::HAS_MIN) to[1] = s.min;
  }
  __syncwarp();
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const float* scales = table + (g + 8 * r) * GROUPS * PARTS;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const float* s = scales + i * GROUPS / 4 * PARTS;
      const uint2 pairs = Affine<F>({s[0], F::HAS_MIN ? s[1] : 0.0f}).round(F::quad(rows[r], c, t, i));
      w[r][2 * i] = pairs.x;
      w[r][2 * i + 1] = pairs.y;
    }
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    KERNEL_NAME(QUANT_PARAMETERS, float* parts, int splits, int passRows, int xStages, int wStages, int type, int spanBytes, int pitch) {
  QUANT_PROBLEM
  extern __shared__ __align__(128) u8 shared[];
  const Place place(p, passRows);
  const Column columns(p, place.tile);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4;
  const int slice = warp / ROW_WARPS, warpColumn = warp % ROW_WARPS * WARP_ROWS;
  float* table = reinterpret_cast<float*>(shared) + warp * TABLE_FLOATS;
  const i64 rowBytes = i64(p.k) * spanBytes / SPAN;
  const BlockCopies copies(p, columns, weight, weightBytes, rowBytes, pitch);
  const u32 ownStart = u32(reinterpret_cast<u64>(weight + existing_row(p, columns, warpColumn + lane % WARP_ROWS) * rowBytes));

  const Part<STEP> part(p.k, splits);
  Rings<MmaLayout> rings(p, place, part, shared + THREADS / 32 * TABLE_FLOATS * 4, passRows, xStages, wStages, BN * pitch);
  const auto copy_span = [&](shared_address stage, int span) {
    const i64 first = i64(span) * spanBytes;
    copies.start(stage, first, u32(min(i64(spanBytes), rowBytes - first)));
  };
  allow_next();
  wait_for_previous();
  rings.fill(p, copy_span);

  float total[NB][4] = {};
#pragma unroll 1
  for (int step = part.first; step < part.end; step++) {
    rings.advance(p, step, copy_span);
    const int c = step % 2 * SLICES + slice, k = STEP * step + CHUNK * slice;
    if (k >= p.k) continue;
    const int span = step / 2;
    const u8* stage = rings.w_stage() + warpColumn * pitch;
    const int skew = (ownStart + u32(span) * u32(spanBytes)) & 15u;
    const u8* rows[2];
#pragma unroll
    for (int i = 0; i < 2; i++) rows[i] = stage + (g + 8 * i) * pitch + __shfl_sync(0xffffffffu, skew, g + 8 * i);
    u32 w[2][8];
    const float none[2] = {};
#define DECODE(number, name) \
  case number: decode_chunk<name>(w, table, stage + lane % WARP_ROWS * pitch + skew, rows, c, p.k - k); break;
    if (type < 9) {
      switch (type) {
        DECODE(0, q4_0) DECODE(1, q4_1) DECODE(2, q5_0) DECODE(3, q5_1) DECODE(4, iq4_nl) DECODE(5, iq4_xs)
        DECODE(6, q2_k) DECODE(7, q3_k) default: decode_chunk<q6_k>(w, table, stage + lane % WARP_ROWS * pitch + skew, rows, c, p.k - k);
      }
      multiply<q4_0, false>(total, w, none, rings.x_chunk(slice), place.halves);
    } else {
      switch (type) {
        DECODE(9, q8_0) DECODE(10, q4_k)
        default: decode_chunk<q5_k>(w, table, stage + lane % WARP_ROWS * pitch + skew, rows, c, p.k - k);
      }
      multiply<q4_k, false>(total, w, none, rings.x_chunk(slice), place.halves);
    }
  }
  finish(p, place, columns, total, slice, warpColumn, reinterpret_cast<float*>(shared), parts, splits);
}
