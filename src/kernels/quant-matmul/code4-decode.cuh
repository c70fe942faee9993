// What the tensor-core kernels for 4-bit codes share: the table that decodes a byte, and nested absmax.
#pragma once
#include "quant.cuh"

#if LLCUDA_TARGET >= 80
// All 256 pairs of levels, once for every lane of a warp, so that no two lanes ever want different words of one bank; rounded,
// pairs of float32 levels, of which lanes that read at different times may share a copy.
// PITCH bytes from one byte's pairs to the next: 128, or 256, where half may be unused, but an address is one byte permutation.
template <int PITCH>
struct PairTable {
  static_assert(PITCH == 128 || PITCH == 256, "the address is made of the byte and the lane's part");
  static constexpr int BYTES = 256 * PITCH;
  static constexpr int COPIES = ROUNDED ? PITCH / 8 : 32;
  u8* table;

  // By all threads of the block, whole warps. level: lane i's, level i % 16 of the code; those of a pair come by shuffles.
  __device__ __forceinline__ void fill(float level) const {
    constexpr int PIECES = ROUNDED ? COPIES / 2 : COPIES / 4; // of 16 bytes
    for (int at = threadIdx.x; at < 256 * PIECES; at += blockDim.x) {
      const int byte = at / PIECES;
      const float first = __shfl_sync(0xffffffffu, level, byte >> 4), second = __shfl_sync(0xffffffffu, level, byte & 15);
      u8* to = table + byte * PITCH + at % PIECES * 16;
      if constexpr (ROUNDED) {
        *reinterpret_cast<float4*>(to) = {first, second, first, second};
      } else {
        const u32 pair = u32(from_float<scalar_t>(first).bits) | u32(from_float<scalar_t>(second).bits) << 16;
        *reinterpret_cast<uint4*>(to) = make_uint4(pair, pair, pair, pair);
      }
    }
  }

  // Two values, rounded to bf16, as f16.
  static __device__ __forceinline__ u32 rounded_pair(float2 v) {
    u32 r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(v.y), "f"(v.x));
    const float first = __uint_as_float(r << 16), second = __uint_as_float(r & 0xffff0000u);
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(second), "f"(first));
    return r;
  }

  // The pairs of eight bytes: of levels, or rounded, of values, `scale` their absmax.
  __device__ __forceinline__ void decode(u32 (&pairs)[8], uint2 codes, float scale) const {
    const u32 mine = threadIdx.x % COPIES * (ROUNDED ? 8 : 4);
#pragma unroll
    for (int i = 0; i < 8; i++) {
      const u32 word = i < 4 ? codes.x : codes.y;
      u32 offset;
      if constexpr (PITCH == 256) {
        offset = __byte_perm(word, mine, 0x5504 | (i % 4) << 4);
      } else {
        const u32 shifted = i % 4 == 0 ? word << 7 : word >> (8 * (i % 4) - 7);
        offset = (shifted & 0x7f80u) | mine;
      }
      if constexpr (ROUNDED) {
        const float2 two = *reinterpret_cast<const float2*>(table + offset);
        pairs[i] = rounded_pair({__fmul_rn(two.x, scale), __fmul_rn(two.y, scale)});
      } else {
        pairs[i] = *reinterpret_cast<const u32*>(table + offset);
      }
    }
  }
};

// Nested absmax of a span in one row to float32, from its four codes and the absmax of their block: lane t of four computes
// chunk t's and gives it to the others.
__device__ __forceinline__ float4 expand_absmax(const Absmax& scales, const float* table, u32 codes, float blockAbsmax) {
  const int lane = threadIdx.x % 32, t = lane % 4;
  const float own = __fadd_rn(__fmul_rn(table[codes >> 8 * t & 255u], blockAbsmax), scales.nestedOffset);
  const int from = lane & ~3;
  return {__shfl_sync(0xffffffffu, own, from), __shfl_sync(0xffffffffu, own, from | 1), __shfl_sync(0xffffffffu, own, from | 2),
          __shfl_sync(0xffffffffu, own, from | 3)};
}

__device__ __forceinline__ float of_chunk(float4 scales, int c) {
  return c == 0 ? scales.x : c == 1 ? scales.y : c == 2 ? scales.z : scales.w;
}
#endif
