// Integers that order as floats do, and pairs (value, index) as one integer, so that a maximum or a selection has no
// ties and no order of evaluation: the same result for any grid.
#pragma once
#include "types.cuh"

// a > b as floats exactly when ordered_key(a) > ordered_key(b). -0 equals +0; every NaN is the largest, as in PyTorch.
__device__ __forceinline__ u32 ordered_key(float x) {
  if (x != x) return 0xffffffffu;
  u32 bits = __float_as_uint(x);
  if (bits == 0x80000000u) bits = 0;
  return bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}

inline constexpr u32 KEY_INFINITY = 0xff800000u;
inline constexpr u32 KEY_MINUS_INFINITY = 0x007fffffu;
inline constexpr u32 KEY_NAN = 0xffffffffu;

// The inverse, for keys of numbers.
__device__ __forceinline__ float key_to_float(u32 key) {
  return __uint_as_float(key ^ (key >> 31 ? 0x80000000u : 0xffffffffu));
}

// Larger values first, lower indices first among equals. Never 0, which stands for "nothing".
__device__ __forceinline__ u64 ordered_pair(float x, u32 index) {
  return u64(ordered_key(x)) << 32 | (0xffffffffu - index);
}
__device__ __forceinline__ u32 pair_index(u64 pair) { return 0xffffffffu - u32(pair); }
__device__ __forceinline__ u32 pair_key(u64 pair) { return u32(pair >> 32); }

__device__ __forceinline__ u64 warp_max_u64(u64 x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    const u64 other = __shfl_xor_sync(0xffffffffu, x, offset);
    x = other > x ? other : x;
  }
  return x;
}

// Every thread gets the largest. One-dimensional blocks of whole warps; all threads take part.
__device__ __forceinline__ u64 block_max_u64(u64 x) {
  __shared__ u64 scratch[32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  x = warp_max_u64(x);
  if (warps == 1) return x;
  __syncthreads(); // an earlier call's readers are done
  if (lane == 0) scratch[warp] = x;
  __syncthreads();
  return warp_max_u64(lane < warps ? scratch[lane] : 0);
}
