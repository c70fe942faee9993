// random: out[i] = uniform in [low, high), or normal with a mean and a standard deviation, from Philox4x32-10.
//
// Philox is a counter-based generator: ten rounds of multiply and xor turn a counter and a key into four random words,
// and no thread has a state. Element i takes word i % 4 of counter `offset + i / 4` under key `seed`, so the numbers
// depend on seed, offset and position alone, never on the grid or the GPU.
// Source: Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3; SC 2011.
// Grid: any; a thread makes four elements per step: some 70 integer instructions for Philox, and for normal numbers two
// logarithms, two roots and two sine-cosine pairs. Bound by arithmetic: about three times as long as the stores
// of bf16 take. 24 to 28 registers, no shared memory.
#include "../common/launch.cuh"
#include "philox.cuh"

// 24 random bits: a multiple of 2^-24 in [0, 1), exact in float32.
__device__ __forceinline__ float unit(u32 word) { return float(word >> 8) * 0x1p-24f; }

// Box and Muller: two words give two independent normal numbers. The radius comes from all 32 bits, centred in their
// steps so that the logarithm's argument is never 0; the largest result is 6.66.
__device__ __forceinline__ float2 normal_pair(u32 radius_word, u32 angle_word) {
  const float u = fmaf(float(radius_word), 0x1p-32f, 0x1p-33f);
  const float radius = sqrtf(-2.0f * logf(u));
  float sine, cosine;
  sincospif(2.0f * unit(angle_word), &sine, &cosine);
  return make_float2(radius * cosine, radius * sine);
}

// a, b: low and high, or mean and standard deviation. below: the largest number of the type under high.
extern "C" __global__ void __launch_bounds__(256)
    KERNEL_NAME(scalar_t* out, i64 count, u64 seed, u64 offset, int normal, float a, float b,
                float below) {
#pragma unroll 1
  for (i64 group = grid_start(); group * 4 < count; group += grid_step()) {
    const uint4 words = philox(seed, offset + u64(group));
    float values[4];
    if (normal) {
      const float2 first = normal_pair(words.x, words.y);
      const float2 second = normal_pair(words.z, words.w);
      values[0] = fmaf(first.x, b, a);
      values[1] = fmaf(first.y, b, a);
      values[2] = fmaf(second.x, b, a);
      values[3] = fmaf(second.y, b, a);
    } else {
      values[0] = fmaf(unit(words.x), b - a, a);
      values[1] = fmaf(unit(words.y), b - a, a);
      values[2] = fmaf(unit(words.z), b - a, a);
      values[3] = fmaf(unit(words.w), b - a, a);
    }
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const i64 i = group * 4 + k;
      scalar_t x = from_float<scalar_t>(values[k]);
      // Rounding may reach the upper bound, which is outside of the range.
      if (!normal && to_float(x) >= b) x = from_float<scalar_t>(below);
      if (i < count) out[i] = x;
    }
  }
}
