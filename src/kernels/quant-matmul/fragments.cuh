// Four q, one a byte, as two registers of two 16-bit floats each: exact, so that a group's scale may be applied to sums.
#pragma once
#include "../common/types.cuh"

#if LLCUDA_TARGET >= 80
struct Pairs {
  u32 low, high; // values 0, 1 and 2, 3
};

// A byte below the right upper byte is a whole number: 0x64'uu is 1024 + u in f16, 0x43'uu is 128 + u in bf16 (u < 128).
// Subtracting the number's start and the bias leaves q, without rounding.
__device__ __forceinline__ u32 subtract_pair(u32 pair, float number) {
  u32 r;
  if constexpr (is_same<scalar_t, f16>) {
    const u32 minus = from_float<f16>(-number).bits * 0x00010001u;
    asm("add.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(pair), "r"(minus));
  } else {
    // bf16x2 has no add before sm_90: one times the pair.
    const u32 minus = from_float<bf16>(-number).bits * 0x00010001u, one = 0x3f803f80u;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(pair), "r"(one), "r"(minus));
  }
  return r;
}

template <int BIAS>
__device__ __forceinline__ Pairs pairs_of(u32 q) {
  if constexpr (is_same<scalar_t, f16>) {
    return {subtract_pair(__byte_perm(q, 0x64646464u, 0x4140), 1024.0f + BIAS),
            subtract_pair(__byte_perm(q, 0x64646464u, 0x4342), 1024.0f + BIAS)};
  } else if constexpr (BIAS < 128) {
    return {subtract_pair(__byte_perm(q, 0x43434343u, 0x4140), 128.0f + BIAS),
            subtract_pair(__byte_perm(q, 0x43434343u, 0x4342), 128.0f + BIAS)};
  } else {
    // Eight bits fit no bf16 beside its leading one. As float32, 0x4b'00'00'uu is 2^23 + u; the difference has at most eight
    // significant bits, so its upper half is all of it.
    const float start = 8388608.0f + BIAS;
    const u32 a = __float_as_uint(__uint_as_float(__byte_perm(q, 0x4b000000u, 0x7440)) - start);
    const u32 b = __float_as_uint(__uint_as_float(__byte_perm(q, 0x4b000000u, 0x7441)) - start);
    const u32 c = __float_as_uint(__uint_as_float(__byte_perm(q, 0x4b000000u, 0x7442)) - start);
    const u32 d = __float_as_uint(__uint_as_float(__byte_perm(q, 0x4b000000u, 0x7443)) - start);
    return {__byte_perm(a, b, 0x7632), __byte_perm(c, d, 0x7632)};
  }
}

inline constexpr u32 ONES = is_same<scalar_t, f16> ? 0x3c003c00u : 0x3f803f80u;
#endif
