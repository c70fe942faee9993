// GGML blocks (../ggml/blocks.cuh) as wgmma takes them, which has x in natural order: of eight values lane t of four has the two
// from 2t on. quad_of<F>(span, c, t, i) gives the codes of values 16 i + 2 t, their right neighbours, and of the same eight further,
// of chunk c, one a byte as Affine takes them. Nibbles lie so that a lane's two values are whole bytes of W.
#pragma once
#include "../ggml/blocks.cuh"

// Bytes 2t, 2t + 1, 2t + 8 and 2t + 9 of sixteen.
__device__ __forceinline__ u32 two_pairs(const u8* sixteen, int t) {
  const unsigned short* pairs = reinterpret_cast<const unsigned short*>(sixteen) + t;
  return u32(pairs[0]) | u32(pairs[4]) << 16;
}

template <class F>
__device__ __forceinline__ u32 quad_of(const u8* span, int c, int t, int i) {
  if constexpr (is_same<F, q4_0>) {
    return low_nibbles(two_pairs(F::block(span, c, i) + 2, t) >> i % 2 * 4);
  } else if constexpr (is_same<F, q8_0>) {
    return two_pairs(span + (2 * c + i / 2) * F::BYTES + 2 + i % 2 * 16, t) ^ 0x80808080u;
  } else if constexpr (is_same<F, q4_k>) {
    return low_nibbles(two_pairs(span + 16 + 32 * c + i % 2 * 16, t) >> i / 2 * 4);
  } else if constexpr (is_same<F, q5_k>) {
    const u32 low = low_nibbles(two_pairs(span + 48 + 32 * c + i % 2 * 16, t) >> i / 2 * 4);
    return low | (two_pairs(span + 16 + i % 2 * 16, t) >> (2 * c + i / 2) & 0x01010101u) << 4;
  } else {
    static_assert(is_same<F, q6_k>, "a type that is built");
    const int h = c / 2, s = c % 2;
    const u32 low = low_nibbles(two_pairs(span + 64 * h + 16 * i, t) >> 4 * s);
    return low | (two_pairs(span + 128 + 32 * h + i % 2 * 16, t) >> 2 * (2 * s + i / 2) & 0x03030303u) << 4;
  }
}
