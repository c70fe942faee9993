// Tables in shared memory for decoding 4-bit codes two at a time.
#pragma once
#include "../common/types.cuh"

constexpr int TABLE_BYTES = 256 * 32 * 4, NESTED_BYTES = 256 * 4;

// All 256 pairs of levels, once for every lane: no two lanes ever want different words of one bank. Behind them the levels of
// nested absmax.
template <int THREADS>
__device__ __forceinline__ void fill_tables(u8* shared, const float* code, float levelScale, const float* nestedCode) {
  for (int at = threadIdx.x; at < 256 * 8; at += THREADS) { // four copies of a pair at a time
    const u32 pair = u32(from_float<scalar_t>(code[at >> 7] * levelScale).bits) |
                     u32(from_float<scalar_t>(code[at >> 3 & 15] * levelScale).bits) << 16;
    reinterpret_cast<uint4*>(shared)[at] = make_uint4(pair, pair, pair, pair);
  }
  if (!nestedCode) return;
  for (int at = threadIdx.x; at < 256; at += THREADS) reinterpret_cast<float*>(shared + TABLE_BYTES)[at] = nestedCode[at];
}
