// Few rows times a quantized weight on the float32 units: D[M, N] = x[M, K] · W[N, K]^T, M = 1..8, every type and target.
// For GPUs before sm_80, for float32, and for rows that quant-mma.cu cannot take.
//
// One warp a row of W (with a gate two: that row's gate and up), four to a block. A span of 256 values is two quads a lane,
// 8 values; x comes through L1, where the block's warps share it.
// Bound by arithmetic where memory is fast: for each value a few operations to decode it, a conversion, and M multiply-adds.
// Sums: for each group scale * sum(q x) - min * sum(x), lane-wise in k order, then a butterfly over the warp. Nothing depends
// on M: a row's result has the same bits in every batch of up to 8.
// VALUES_F16 and VALUES_BF16, which f32 and f16 products of 4-bit codes know, round each value as it is decoded.
// Needs K a multiple of 4 (and of the format's block).
//
// With `table` (../moe/groups.cuh) W is the weights of experts [E, N, K], gated [E, 2N, K], and row y of the grid multiplies the
// rows of group y with their expert's: row `slot` of D by row slot / share of x. A group's rows are this kernel's M.
#include "quant.cuh"
#include "../common/launch.cuh"
#include "../common/reduce.cuh"
#include "../moe/groups.cuh"

constexpr int M = 8;
constexpr int WARPS = 4;

__device__ __forceinline__ Vec<float, 4> load_four(const scalar_t* x, bool vector) {
  if (vector) return to_floats(*reinterpret_cast<const Vec<scalar_t, 4>*>(x));
  Vec<float, 4> v;
#pragma unroll
  for (int i = 0; i < 4; i++) v[i] = to_float(x[i]);
  return v;
}

constexpr bool ROUNDS = CODE4 && !is_same<scalar_t, bf16>;
__device__ __forceinline__ float rounded(const Problem& p, float value) {
  return p.has(VALUES_BF16) ? to_float(from_float<bf16>(value)) : to_float(from_float<f16>(value));
}

extern "C" __global__ void __launch_bounds__(32 * WARPS)
    KERNEL_NAME(QUANT_PARAMETERS, const i32* order, const i32* table, int share) {
  QUANT_PROBLEM
  __shared__ float levels[16];
  if constexpr (CODE4) {
    if (threadIdx.x < 16) levels[threadIdx.x] = code[threadIdx.x];
    __syncthreads();
  }
  wait_for_previous();
  allow_next();
  const Absmax scales = CODE4_ABSMAX;
  const int lane = threadIdx.x % 32, column = blockIdx.x * WARPS + threadIdx.x / 32;
  if (column >= p.n) return;
  const int halves = p.has(GATED) ? 2 : 1;
  i64 firstRow = column;
  if (table) {
    if (int(blockIdx.y) >= group_count(table)) return;
    const Group group = load_group(table, blockIdx.y);
    p.order = order + group.first;
    p.share = share;
    p.m = group.rows;
    firstRow += i64(group.expert) * halves * p.n;
  }
  int rowOfX[M];
#pragma unroll
  for (int m = 0; m < M; m++) rowOfX[m] = p.row_in_a(m);
  const int c = lane / 8, t = lane / 2 % 4, i0 = lane % 2 * 2;
  const i64 rowBytes = CODE4 ? i64(p.k) / 2 : i64(p.k) / Format::VALUES * Format::BYTES;
  const bool vector = p.has(VECTOR_A);

  float gate = 0.0f, up = 0.0f; // lane m: the sums of row m
  for (int h = 0; h < halves; h++) {
    const i64 row = firstRow + i64(h) * p.n;
    float sum[M] = {};
    for (int span = 0; SPAN * span < p.k; span++) {
      const u8* data = weight + row * rowBytes + i64(span) * span_bytes<Format>;
#pragma unroll
      for (int i = i0; i < i0 + 2; i++) {
        const int in_span = CHUNK * c + Format::offset(t, i), k = SPAN * span + in_span;
        if (k >= p.k) continue;
        Scale s;
        if constexpr (CODE4) s = {scales.at((row * p.k + k) >> scales.shift), 0.0f};
        else s = Format::scale_of(data, in_span / Format::GROUP);
        const u32 quad = Format::quad(data, c, t, i);
        float q[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
          const u32 biased = quad >> 8 * j & 255u;
          q[j] = CODE4 ? levels[biased & 15u] : float(int(biased) - Format::BIAS);
        }
        if (ROUNDS && p.has(VALUES_F16 | VALUES_BF16)) {
#pragma unroll
          for (int j = 0; j < 4; j++) q[j] = rounded(p, q[j] * s.scale);
          s.scale = 1.0f;
        }
#pragma unroll
        for (int m = 0; m < M; m++) {
          if (m >= p.m) break;
          const Vec<float, 4> x = load_four(p.a + rowOfX[m] * p.lda + k, vector);
          float product = 0.0f, plain = 0.0f;
#pragma unroll
          for (int j = 0; j < 4; j++) {
            product = fmaf(q[j], x[j], product);
            plain += x[j];
          }
          sum[m] = fmaf(s.scale, product, sum[m]);
          if constexpr (Format::HAS_MIN) sum[m] = fmaf(-s.min, plain, sum[m]);
        }
      }
    }
#pragma unroll
    for (int m = 0; m < M; m++) {
      const float whole = warp_sum(sum[m]);
      if (lane == m) (h == 0 ? gate : up) = whole;
    }
  }
  if (lane >= min(M, p.m)) return;
  if (halves == 2) p.finish_gated(lane, column, gate, up);
  else p.finish(lane, column, gate);
}
