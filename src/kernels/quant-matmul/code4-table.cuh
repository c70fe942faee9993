// Tables in shared memory for decoding 4-bit codes two at a time.
#pragma once
#include "../common/types.cuh"

constexpr int TABLE_BYTES = 256 * 32 * 4, NESTED_BYTES = 256 * 4;

// All 256 pairs of levels, once for every lane: no two lanes ever want different words of one bank. Behind them the levels of
// nested absmax.
template <int THREADS>
__device__ __forceinline__ void fill_pairs(u8* shared, u32 level) { // level: bits of lane i's, level i % 16 of the code
#pragma unroll
  for (int i = 0; i < 256 * 8 / THREADS; i++) { // four copies of a pair at a time
    const int at = threadIdx.x + i * THREADS;
    const u32 pair = __shfl_sync(0xffffffffu, level, at >> 7) | __shfl_sync(0xffffffffu, level, at >> 3 & 15) << 16;
    reinterpret_cast<uint4*>(shared)[at] = make_uint4(pair, pair, pair, pair);
  }
}
template <int THREADS>
__device__ __forceinline__ void fill_tables(u8* shared, const float* code, float levelScale, const float* nestedCode) {
  fill_pairs<THREADS>(shared, from_float<scalar_t>(code[threadIdx.x & 15] * levelScale).bits);
  if (!nestedCode) return;
  for (int at = threadIdx.x; at < 256; at += THREADS) reinterpret_cast<float*>(shared + TABLE_BYTES)[at] = nestedCode[at];
}
