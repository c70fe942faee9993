// attention_combine: joins the chunks that attention_split left, in a fixed order.
//
//   out[t, h] = sum over chunks c of 2^(m_c - M) · values_c  /  sum over c of 2^(m_c - M) · l_c,   M the largest m_c
//
//   partial [B, queries, H, splits, D] f32, stats [.., 2] f32 (m, l); out [T, H, D].
//   Grid: (B · H, queries). Block: 128 threads; every warp weighs all chunks, then each thread sums its columns over them.
//   Sequences with more than 8 new tokens and rows past a sequence's own leave at once.
// Traffic: chunks · (D + 2) · 4 bytes per row, mostly from L2, where attention_split has just put them. Bound by
// latency: two dependent reads, of lengths and of results; no barrier. Registers: 40.
// Variants: dtype (of out).
#include "../common/reduce.cuh"
#include "attention.cuh"

inline constexpr int THREADS = 128;
inline constexpr int AHEAD = 16; // values that a thread has on their way at once
static_assert(MAX_SPLITS == 64 && 32 % AHEAD == 0, "a lane weighs two chunks");

extern "C" __global__ void __launch_bounds__(THREADS)
KERNEL_NAME(scalar_t* out, const float* partial, const float* stats, const i32* query_starts,
            const i32* context_lengths, i32 heads, i32 head_dim, i32 splits, i32 queries, i32 window, i32 settled) {
  allow_next();
  if (!settled) wait_for_previous();
  const i32 b = blockIdx.x / heads, head = blockIdx.x % heads, i = blockIdx.y;
  const Sequence seq = load_sequence(b, query_starts, context_lengths, window);
  const i32 count = divide_context(seq).count;
  if (settled) wait_for_previous();
  if (seq.queries > FEW_QUERIES || i >= seq.queries) return;
  const i64 first = ((i64(b) * queries + i) * heads + head) * splits;

  // ---- the values of the first chunks are on their way while their weights are found --------------------------------
  float values[AHEAD];
  const auto load_values = [&](int column, int chunk) {
#pragma unroll
    for (int c = 0; c < AHEAD; c++) {
      const bool exists = chunk + c < count && column < head_dim;
      values[c] = exists ? partial[(first + chunk + c) * head_dim + column] : 0.0f;
    }
  };
  load_values(threadIdx.x, 0);

  // ---- every warp weighs all chunks: two a lane ---------------------------------------------------------------------
  float maximum[2], weight[2], sum[2];
#pragma unroll
  for (int n = 0; n < 2; n++) {
    const int c = threadIdx.x % 32 + 32 * n;
    const float2 stat = c < count ? *reinterpret_cast<const float2*>(stats + (first + c) * 2) : make_float2(LOWEST, 0.0f);
    maximum[n] = stat.x;
    sum[n] = stat.y;
  }
  const float highest = warp_max(fmaxf(maximum[0], maximum[1]));
#pragma unroll
  for (int n = 0; n < 2; n++) weight[n] = exp2_fast(maximum[n] - highest);
  const float total = warp_sum(weight[0] * sum[0] + weight[1] * sum[1]);
#pragma unroll
  for (int n = 0; n < 2; n++) weight[n] /= total;

  // ---- sum them -----------------------------------------------------------------------------------------------------
  out += (i64(seq.first_token + i) * heads + head) * head_dim;
#pragma unroll 1
  for (int before = 0; before < head_dim; before += THREADS) {
    const int column = before + threadIdx.x;
    float result = 0.0f;
#pragma unroll 1
    for (int chunk = 0; chunk < count; chunk += AHEAD) {
      if (before > 0 || chunk > 0) load_values(column, chunk);
      const float from = chunk < 32 ? weight[0] : weight[1];
#pragma unroll
      for (int c = 0; c < AHEAD; c++) result = fmaf(__shfl_sync(WARP, from, chunk % 32 + c), values[c], result);
    }
    if (column < head_dim) out[column] = from_float<scalar_t>(result);
  }
}
