// RMSNorm of query and key heads before they are turned (QK-norm): x[i] · (w[i] + offset) / sqrt(mean(x²) + eps) over a
// head's D elements. Nothing is rounded between norm and rotation.
#pragma once
#include "../rope/rotation.cuh"

// Threads that share the sum of one head row: all rows of a block at once.
inline constexpr int NORM_THREADS = ROPE_THREADS / HEADS_PER_BLOCK;

// Weights [D] of query and key heads; null for none. See RopeStoreArgs.norm.
struct HeadNorms {
  const scalar_t *query, *key;
  float eps, weight_offset;
};

// Brings both weights to L2. They do not come from the kernel before.
__device__ __forceinline__ void prefetch_norms(const scalar_t* query, const scalar_t* key, int head_dim) {
#if LLCUDA_TARGET >= 90
  constexpr int LINE = 128 / sizeof(scalar_t);
  const int i = int(threadIdx.x) / 2 * LINE;
  if (i >= head_dim) return;
  const scalar_t* from = (threadIdx.x % 2 ? key : query) + i;
  asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(from)));
#endif
}

// Applies the norm of one row to N of its elements from i on.
struct Normalize {
  float inverse; // 1 / sqrt(mean(x²) + eps)
  const scalar_t* weight;
  float weight_offset;

  template <int N>
  __device__ __forceinline__ Vec<float, N> operator()(Vec<scalar_t, N> x, int i) const {
    const Vec<float, N> h = to_floats(x), w = to_floats(*reinterpret_cast<const Vec<scalar_t, N>*>(weight + i));
    Vec<float, N> y;
#pragma unroll
    for (int j = 0; j < N; j++) y[j] = h[j] * inverse * (w[j] + weight_offset);
    return y;
  }
};

// 1 / sqrt(mean(x²) + eps) of the row that this thread's group of NORM_THREADS works on; `x` null for a group without one.
// All threads of a warp take part. The order of the sum depends on D and N alone.
template <int N>
__device__ __forceinline__ float inverse_rms(const scalar_t* x, int head_dim, float eps) {
  float squares = 0.0f;
  if (x) {
#pragma unroll 1
    for (int i = threadIdx.x % NORM_THREADS * N; i < head_dim; i += NORM_THREADS * N) {
      const Vec<float, N> h = to_floats(*reinterpret_cast<const Vec<scalar_t, N>*>(x + i));
#pragma unroll
      for (int j = 0; j < N; j++) squares = fmaf(h[j], h[j], squares);
    }
  }
#pragma unroll
  for (int offset = NORM_THREADS / 2; offset > 0; offset /= 2) squares += __shfl_xor_sync(0xffffffffu, squares, offset);
  return 1.0f / sqrtf(squares / float(head_dim) + eps);
}
