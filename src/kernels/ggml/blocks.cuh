// The blocks of GGML's quantized types, as GGUF files store them: one reader per type, shared by dequantization and by products.
//
// Every type is affine in groups of 16 or 32 values: value = scale * q - min, with a whole number q of at most 8 bits and
// one scale (and, for some types, one min) a group. A reader gives the two halves of that, for a span of 256 values: eight
// small blocks or one of 256.
//
//   scale_of(span, g)      scale and min of group g of the span, in float32, as gguf-py computes them
//   quad(span, c, t, i)    four q at once, one a byte, BIAS added so that none is negative:
//                          the values offset(t, i) .. + 3 of the 64 values of chunk c
//
//   span | chunk 0 | chunk 1 | chunk 2 | chunk 3 |     The 16 quads (t, i) of a chunk are dealt as the tensor cores want
//          \______ 64 values = 16 quads                them: lane t of four takes quads i = 0..3, one for each
//                                                      multiplication of 16 k, and a group never straddles a quad i.
//
// Which values lie in one quad follows from the type's packing: see each. All addresses are multiples of 2, of 4 where the
// block's size is. Sources: ggml-quants.h and gguf-py's quants.py (llama.cpp), for the layouts.
#pragma once
#include "../common/types.cuh"

constexpr int SPAN = 256;
constexpr int CHUNK = 64;

struct Scale {
  float scale, min;
};

template <int align>
__device__ __forceinline__ u32 load_4(const u8* p) {
  if constexpr (align >= 4) {
    return *reinterpret_cast<const u32*>(p);
  } else {
    const unsigned short* h = reinterpret_cast<const unsigned short*>(p);
    return u32(h[0]) | u32(h[1]) << 16;
  }
}
__device__ __forceinline__ float load_half(const u8* p) { return to_float(*reinterpret_cast<const f16*>(p)); }

// Bit i of the lower four becomes the lowest bit of byte i.
__device__ __forceinline__ u32 spread_bits(u32 bits) { return (bits & 15u) * 0x00204081u & 0x01010101u; }

__device__ __forceinline__ u32 low_nibbles(u32 x) { return x & 0x0f0f0f0fu; }

// The 16 levels of IQ4, 128 added: byte i of four becomes the level of nibble i. `prmt` looks up eight bytes at a time; the
// third one takes each byte from the lower or the upper eight levels, by the nibble's highest bit.
__device__ __forceinline__ u32 iq4_levels(u32 nibbles) {
  // -127 -104 -83 -65 | -49 -35 -22 -10 | 1 13 25 38 | 53 69 89 113
  const u32 a = 0x3f2d1801u, b = 0x766a5d4fu, c = 0xa6998d81u, d = 0xf1d9c5b5u;
  const u32 packed = (nibbles | nibbles >> 4) & 0x00ff00ffu; // 0x00DC00BA of bytes D C B A
  const u32 selector = packed | packed >> 8;                 // 0x..DCBA
  const u32 lower = __byte_perm(a, b, selector & 0x7777u), upper = __byte_perm(c, d, selector & 0x7777u);
  return __byte_perm(lower, upper, (selector >> 1 & 0x4444u) | 0x3210u);
}

// ---- blocks of 32 --------------------------------------------------------------------------------------------------

// Sixteen bytes of nibbles: byte j has value j below and value j + 16 above.
template <int BYTES_, int QS, int BIAS_, bool HAS_MIN_>
struct Nibbles32 {
  static constexpr int VALUES = 32, BYTES = BYTES_, GROUP = 32, BIAS = BIAS_;
  static constexpr bool HAS_MIN = HAS_MIN_;
  static constexpr int ALIGN = BYTES % 4 == 0 ? 4 : 2;
  static constexpr bool WIDE = false; // quads i and i + 1 of a lane are neighbours

  static __device__ __forceinline__ int offset(int t, int i) { return 16 * i + 4 * t; }
  static __device__ __forceinline__ const u8* block(const u8* span, int c, int i) {
    return span + (2 * c + i / 2) * BYTES;
  }
  static __device__ __forceinline__ u32 quad(const u8* span, int c, int t, int i) {
    return low_nibbles(load_4<ALIGN>(block(span, c, i) + QS + 4 * t) >> i % 2 * 4);
  }
  static __device__ __forceinline__ Scale scale_of(const u8* span, int g) {
    const u8* p = span + g * BYTES;
    return {load_half(p), HAS_MIN ? -load_half(p + 2) : 0.0f};
  }
};

// d f16 | 16 bytes of nibbles: d (q - 8)
struct q4_0 : Nibbles32<18, 2, 8, false> {};
// d, m f16 | nibbles: d q + m
struct q4_1 : Nibbles32<20, 4, 0, true> {};

// A fifth bit for each value, bit j of a u32 for value j, between the scales and the nibbles.
template <int BYTES, int QH, int BIAS, bool HAS_MIN>
struct Fives32 : Nibbles32<BYTES, QH + 4, BIAS, HAS_MIN> {
  using Base = Nibbles32<BYTES, QH + 4, BIAS, HAS_MIN>;
  static __device__ __forceinline__ u32 quad(const u8* span, int c, int t, int i) {
    const u32 high = load_4<Base::ALIGN>(Base::block(span, c, i) + QH);
    return Base::quad(span, c, t, i) | spread_bits(high >> (i % 2 * 16 + 4 * t)) << 4;
  }
};
// d f16 | bits | nibbles: d (q - 16)
struct q5_0 : Fives32<22, 2, 16, false> {};
// d, m f16 | bits | nibbles: d q + m
struct q5_1 : Fives32<24, 4, 0, true> {};

// d f16 | 16 bytes of nibbles, each naming one of 16 levels
struct iq4_nl : Nibbles32<18, 2, 128, false> {
  static __device__ __forceinline__ u32 quad(const u8* span, int c, int t, int i) {
    return iq4_levels(Nibbles32<18, 2, 128, false>::quad(span, c, t, i));
  }
};

// d f16 | 32 signed bytes in order
struct q8_0 {
  static constexpr int VALUES = 32, BYTES = 34, GROUP = 32, BIAS = 128;
  static constexpr bool HAS_MIN = false, WIDE = true;
  static __device__ __forceinline__ int offset(int t, int i) { return i / 2 * 32 + 8 * t + i % 2 * 4; }
  static __device__ __forceinline__ u32 quad(const u8* span, int c, int t, int i) {
    return load_4<2>(span + (2 * c + i / 2) * BYTES + 2 + 8 * t + i % 2 * 4) ^ 0x80808080u;
  }
  static __device__ __forceinline__ Scale scale_of(const u8* span, int g) { return {load_half(span + g * BYTES), 0.0f}; }
};

// ---- blocks of 256, groups of 32 -----------------------------------------------------------------------------------

// d, dmin f16 | eight scales and mins of 6 bits in 12 bytes | ... | 128 bytes of nibbles, 32 a chunk: the chunk's first group
// below, its second above. d s q - dmin m.
template <int BYTES_, int QS>
struct Scales6 {
  static constexpr int VALUES = 256, BYTES = BYTES_, GROUP = 32, BIAS = 0;
  static constexpr bool HAS_MIN = true, WIDE = true;
  static __device__ __forceinline__ int offset(int t, int i) { return i / 2 * 32 + 8 * t + i % 2 * 4; }
  static __device__ __forceinline__ u32 quad(const u8* span, int c, int t, int i) {
    return low_nibbles(load_4<4>(span + QS + 32 * c + 8 * t + i % 2 * 4) >> i / 2 * 4);
  }
  static __device__ __forceinline__ Scale scale_of(const u8* span, int g) {
    const u8* s = span + 4;
    const u32 scale = g < 4 ? s[g] & 63u : (s[g + 4] & 15u) | s[g - 4] >> 6 << 4;
    const u32 min = g < 4 ? s[g + 4] & 63u : u32(s[g + 4] >> 4) | s[g] >> 6 << 4;
    return {__fmul_rn(load_half(span), float(scale)), __fmul_rn(load_half(span + 2), float(min))};
  }
};
struct q4_k : Scales6<144, 16> {};
// With 32 bytes of fifth bits before the nibbles: bit g of byte l for value l of group g.
struct q5_k : Scales6<176, 48> {
  static __device__ __forceinline__ u32 quad(const u8* span, int c, int t, int i) {
    const u32 high = load_4<4>(span + 16 + 8 * t + i % 2 * 4) >> (2 * c + i / 2);
    return Scales6<176, 48>::quad(span, c, t, i) | (high & 0x01010101u) << 4;
  }
};

// d f16 | upper 2 bits of eight scales | lower 4 bits | 128 bytes of nibbles, 16 a group as in iq4_nl. d (s - 32) level.
struct iq4_xs {
  static constexpr int VALUES = 256, BYTES = 136, GROUP = 32, BIAS = 128;
  static constexpr bool HAS_MIN = false, WIDE = false;
  static __device__ __forceinline__ int offset(int t, int i) { return 16 * i + 4 * t; }
  static __device__ __forceinline__ u32 quad(const u8* span, int c, int t, int i) {
    return iq4_levels(low_nibbles(load_4<4>(span + 8 + (2 * c + i / 2) * 16 + 4 * t) >> i % 2 * 4));
  }
  static __device__ __forceinline__ Scale scale_of(const u8* span, int g) {
    const int low = span[4 + g / 2] >> g % 2 * 4 & 15;
    const int high = *reinterpret_cast<const unsigned short*>(span + 2) >> 2 * g & 3;
    return {__fmul_rn(load_half(span), float((low | high << 4) - 32)), 0.0f};
  }
};

// ---- blocks of 256, groups of 16 -----------------------------------------------------------------------------------

struct Groups16 {
  static constexpr int VALUES = 256, GROUP = 16;
  static constexpr bool WIDE = false;
  static __device__ __forceinline__ int offset(int t, int i) { return 16 * i + 4 * t; }
};

// 16 bytes of scale (lower nibble) and min (upper) | 64 bytes | d, dmin f16. Two bits a value: bits 2j of byte l of half h
// belong to value 128 h + 32 j + l. d s q - dmin m.
struct q2_k : Groups16 {
  static constexpr int BYTES = 84, BIAS = 0;
  static constexpr bool HAS_MIN = true;
  static __device__ __forceinline__ u32 quad(const u8* span, int c, int t, int i) {
    const u32 four = load_4<4>(span + 16 + c / 2 * 32 + i % 2 * 16 + 4 * t);
    return four >> 2 * (c % 2 * 2 + i / 2) & 0x03030303u;
  }
  static __device__ __forceinline__ Scale scale_of(const u8* span, int g) {
    const u32 s = span[g];
    return {__fmul_rn(load_half(span + 80), float(s & 15u)), __fmul_rn(load_half(span + 82), float(s >> 4))};
  }
};

// 32 bytes of third bits | 64 bytes as in q2_k | 16 scales of 6 bits in 12 bytes | d f16. The third bit of value
// 128 h + 32 j + l is bit 4 h + j of byte l. d (s - 32) (q - 4).
struct q3_k : Groups16 {
  static constexpr int BYTES = 110, BIAS = 4;
  static constexpr bool HAS_MIN = false;
  static __device__ __forceinline__ u32 quad(const u8* span, int c, int t, int i) {
    const int l = i % 2 * 16 + 4 * t, j = c % 2 * 2 + i / 2;
    const u32 low = load_4<2>(span + 32 + c / 2 * 32 + l) >> 2 * j & 0x03030303u;
    return low | (load_4<2>(span + l) >> (c / 2 * 4 + j) & 0x01010101u) << 2;
  }
  static __device__ __forceinline__ Scale scale_of(const u8* span, int g) {
    const u8* s = span + 96;
    const int low = g < 8 ? s[g] & 15 : s[g - 8] >> 4;
    const int high = s[8 + g % 4] >> g / 4 * 2 & 3;
    return {__fmul_rn(load_half(span + 108), float((low | high << 4) - 32)), 0.0f};
  }
};

// 128 bytes of lower nibbles | 64 bytes of upper two bits | 16 signed scales | d f16. Byte v of half h has the nibbles of
// values v and v + 64 of that half; bits 2j of byte l belong to value 128 h + 32 j + l. d s (q - 32).
struct q6_k : Groups16 {
  static constexpr int BYTES = 210, BIAS = 32;
  static constexpr bool HAS_MIN = false;
  static __device__ __forceinline__ u32 quad(const u8* span, int c, int t, int i) {
    const int v = 16 * i + 4 * t, h = c / 2, s = c % 2;
    const u32 low = low_nibbles(load_4<2>(span + 64 * h + v) >> 4 * s);
    const u32 high = load_4<2>(span + 128 + 32 * h + v % 32) >> 2 * (2 * s + i / 2);
    return low | (high & 0x03030303u) << 4;
  }
  static __device__ __forceinline__ Scale scale_of(const u8* span, int g) {
    const float s = float(*reinterpret_cast<const signed char*>(span + 192 + g));
    return {__fmul_rn(load_half(span + 208), s), 0.0f};
  }
};

template <class F>
inline constexpr int span_bytes = SPAN / F::VALUES * F::BYTES;

// One value from its q, rounded as gguf-py does: product and difference each to float32.
template <class F>
__device__ __forceinline__ float value_of(Scale s, u32 biased) {
  const float product = __fmul_rn(s.scale, float(int(biased) - F::BIAS));
  return F::HAS_MIN ? __fsub_rn(product, s.min) : product;
}
