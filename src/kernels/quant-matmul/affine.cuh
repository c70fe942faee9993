// Values of a GGML group from its q, in float32 and rounded once to 16 bits: what dequantizing the weight gives.
#pragma once
#include "../common/types.cuh"

__device__ __forceinline__ u32 round_pair(float low, float high) {
#if LLCUDA_TARGET >= 80
  u32 r;
  if constexpr (is_same<scalar_t, f16>) asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  else asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
#else
  return u32(from_float<scalar_t>(low).bits) | u32(from_float<scalar_t>(high).bits) << 16;
#endif
}

// scale * q - min. A permutation makes a float of a byte u: among the upper bits of the fraction it is 128 + u, a byte of
// eight bits 2^15 + u in the middle ones. `shift` takes the start and the bias away again, in the same multiply-add.
template <class F>
struct Affine {
  static constexpr bool BYTE = F::BIAS == 128;
  // The start times a scale is exact: 11 bits (17 in the K types) beside at most 6, or 9 of 2^15 + 128; not for iq4_xs.
  static constexpr bool FUSED = !BYTE || F::VALUES == 32;
  static constexpr float START = (BYTE ? 32768.0f : 128.0f) + F::BIAS;
  float scale, shift;

  __device__ __forceinline__ Affine(Scale s) : scale(s.scale), shift(FUSED ? -START * s.scale : 0.0f) {
    if constexpr (F::HAS_MIN) shift -= s.min;
  }
  __device__ __forceinline__ float value(u32 q, int j) const {
    const u32 bits = BYTE ? __byte_perm(q, 0x47000000u, 0x7604 | j << 4) : __byte_perm(q, 0x43000000u, 0x7044 | j << 8);
    return FUSED ? fmaf(__uint_as_float(bits), scale, shift) : (__uint_as_float(bits) - START) * scale;
  }
  // The four values of a quad.
  __device__ __forceinline__ uint2 round(u32 q) const {
    return {round_pair(value(q, 0), value(q, 1)), round_pair(value(q, 2), value(q, 3))};
  }
};
