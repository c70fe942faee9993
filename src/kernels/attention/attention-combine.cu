// attention_combine: joins the chunks that attention_split left, in a fixed order.
//
//   out[t, h] = sum over chunks c of 2^(m_c - M) · values_c  /  sum over c of 2^(m_c - M) · l_c,   M the largest m_c
//
//   partial [B, queries, H, splits, D] f32, stats [.., 2] f32 (m, l); out [T, H, D].
//   Grid: (B · H, queries). Block: 128 threads; thread c weighs chunk c, then each thread sums its columns over chunks.
//   Sequences with more than 8 new tokens and rows past a sequence's own leave at once.
// Traffic: chunks · (D + 2) · 4 bytes per row, mostly from L2, where attention_split has just put them. Bound by
// latency: two dependent reads and two barriers. Shared memory: 0.5 KB. Registers: 33.
// Variants: dtype (of out).
#include "../common/reduce.cuh"
#include "attention.cuh"

inline constexpr int THREADS = 128;

extern "C" __global__ void __launch_bounds__(THREADS)
KERNEL_NAME(scalar_t* out, const float* partial, const float* stats, const i32* query_starts,
            const i32* context_lengths, i32 heads, i32 head_dim, i32 splits, i32 queries, i32 window) {
  __shared__ float weights[MAX_SPLITS];
  allow_next();
  wait_for_previous();
  const i32 b = blockIdx.x / heads, head = blockIdx.x % heads, i = blockIdx.y;
  const Sequence seq = load_sequence(b, query_starts, context_lengths, window);
  if (seq.queries > FEW_QUERIES || i >= seq.queries) return;
  const i32 count = divide_context(seq).count;
  const i64 first = ((i64(b) * queries + i) * heads + head) * splits;

  // ---- weigh the chunks ---------------------------------------------------------------------------------------------
  const bool has_chunk = threadIdx.x < count;
  const float maximum = has_chunk ? stats[(first + threadIdx.x) * 2] : LOWEST;
  const float sum = has_chunk ? stats[(first + threadIdx.x) * 2 + 1] : 0.0f;
  const float weight = exp2_fast(maximum - block_max(maximum));
  const float total = block_sum(weight * sum);
  if (has_chunk) weights[threadIdx.x] = weight / total;
  __syncthreads();

  // ---- sum them -----------------------------------------------------------------------------------------------------
  out += (i64(seq.first_token + i) * heads + head) * head_dim;
#pragma unroll 1
  for (int column = threadIdx.x; column < head_dim; column += THREADS) {
    const float* values = partial + first * head_dim + column;
    float result = 0.0f;
#pragma unroll 8
    for (int c = 0; c < count; c++) result = fmaf(weights[c], values[i64(c) * head_dim], result);
    out[column] = from_float<scalar_t>(result);
  }
}
