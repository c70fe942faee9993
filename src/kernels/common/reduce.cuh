// Reductions over a warp and over a block. The order of additions is fixed by the block's size, so that the same input
// always gives the same bits.
#pragma once
#include "types.cuh"

inline constexpr u32 FULL_WARP = 0xffffffffu;

struct Sum {
  static constexpr float identity = 0.0f;
  static __device__ __forceinline__ float apply(float a, float b) { return a + b; }
};
struct Max {
  static constexpr float identity = -__builtin_huge_valf();
  static __device__ __forceinline__ float apply(float a, float b) { return fmaxf(a, b); }
};
struct Min {
  static constexpr float identity = __builtin_huge_valf();
  static __device__ __forceinline__ float apply(float a, float b) { return fminf(a, b); }
};

// Every lane gets the result. `width` (a power of two up to 32) splits the warp into independent groups.
template <typename Op, int width = 32>
__device__ __forceinline__ float warp_reduce(float x) {
#pragma unroll
  for (int offset = width / 2; offset > 0; offset /= 2) x = Op::apply(x, __shfl_xor_sync(FULL_WARP, x, offset));
  return x;
}
__device__ __forceinline__ float warp_sum(float x) { return warp_reduce<Sum>(x); }
__device__ __forceinline__ float warp_max(float x) { return warp_reduce<Max>(x); }

// Every thread gets the result. The block must be one-dimensional and a multiple of 32 threads, at most 1024, and all
// of its threads must take part. One barrier before the scratch is read and one before it may be reused: 128 bytes of
// shared memory per kernel, however often this is called.
template <typename Op>
__device__ __forceinline__ float block_reduce(float x) {
  __shared__ float scratch[32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  x = warp_reduce<Op>(x);
  if (warps == 1) return x;
  __syncthreads(); // an earlier call's readers are done
  if (lane == 0) scratch[warp] = x;
  __syncthreads();
  return warp_reduce<Op>(lane < warps ? scratch[lane] : Op::identity);
}
__device__ __forceinline__ float block_sum(float x) { return block_reduce<Sum>(x); }
__device__ __forceinline__ float block_max(float x) { return block_reduce<Max>(x); }
