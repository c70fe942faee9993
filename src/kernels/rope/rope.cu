// rope: out[t,h,i], out[t,h,i+R/2] = x[t,h,i]·cos - x[t,h,i+R/2]·sin,  x[t,h,i+R/2]·cos + x[t,h,i]·sin    for i < R/2,
// with the angle positions[t]·frequencies[i]; elements from R (rotary_dim) to D pass through.
//
// x, out [T, heads, D] with a row stride each, out may be x; positions [T]; frequencies [R/2] f32. D <= 256.
// Grid: (token, group of 8 heads). Block: 128 threads, which first make the token's cos and sin in shared memory (1 KB;
// rotation.cuh) and then turn 16 bytes' worth of pairs each, or one pair where rows are not 16-byte aligned.
// Bound by DRAM at prefill: each element read once and written once, 2·T·heads·D·sizeof bytes. At decode it is a launch
// and two dependent reads. Registers: 32 to 58.
// Variants: dtype. Sources: RoFormer, arXiv 2104.09864, section 3.4.2; NTK-aware scaling for "dynamic".
#include "../common/launch.cuh"
#include "rotation.cuh"

template <int N>
__device__ __forceinline__ void rotate_heads(scalar_t* out, const scalar_t* x, const AngleTable& table, int heads, int head_dim, int rotary_dim) {
  const int items = row_items<N>(head_dim, rotary_dim);
  for (int n = threadIdx.x; n < heads * items; n += ROPE_THREADS) {
    const int head = n / items;
    rotate_item<N>(out + head * head_dim, x + head * head_dim, table, n - head * items, rotary_dim);
  }
}

extern "C" __global__ void __launch_bounds__(ROPE_THREADS)
KERNEL_NAME(scalar_t* out, const scalar_t* x, i64 out_stride, i64 stride, const i32* positions, const float* frequencies,
            const i32* query_starts, const i32* sequence_lengths, i32 sequences, float dynamic_factor, i32 trained_context,
            float attention_scale, i32 heads, i32 head_dim, i32 rotary_dim) {
  __shared__ AngleTable table;
  wait_for_previous();
  allow_next();
  fill_angles(table, {positions, frequencies, query_starts, sequence_lengths, sequences, dynamic_factor, trained_context, attention_scale, rotary_dim}, blockIdx.x);
  __syncthreads();

  const int first = blockIdx.y * HEADS_PER_BLOCK;
  const int count = min(HEADS_PER_BLOCK, heads - first);
  out += blockIdx.x * out_stride + first * head_dim;
  x += blockIdx.x * stride + first * head_dim;
  if (is_vectorable(head_dim, rotary_dim, stride | out_stride, u64(out) | u64(x))) rotate_heads<VEC>(out, x, table, count, head_dim, rotary_dim);
  else rotate_heads<1>(out, x, table, count, head_dim, rotary_dim);
}
