// GGML blocks as operands of the tensor cores: for a lane (g, t), the 16 values that it feeds of a chunk of 64 in one row, as
// eight registers of two 16-bit floats, and the scales of a chunk. Layouts and order are those of ../ggml/blocks.cuh.
//
// The bits of a code are brought into a float's mantissa, under an exponent that makes the number START + q, exactly. Four bits:
//
//            sign, exponent    mantissa
//   bf16     0 1000 0110       000 qqqq          0x4300 | q = 128 + q, whatever the bits; of two, 4 + q
//   f16      0 10101           00 qqqq 0000      0x5400 | q << 4 = 64 + q: the upper half of a byte is where it must be
//
// Four codes are shifted and masked together, one a byte (the lower byte of the float), and `prmt` puts the upper byte, a
// constant, beside each: 0.9 operations a value for 4 bits, 1.5 for 5 and 6. For a type with a min START stays: the caller takes
// START times the sum of x out of the sums together with the min. For the others one more operation on two values leaves q itself.
#pragma once
#include "../ggml/blocks.cuh"

constexpr bool BRAIN = is_same<scalar_t, bf16>;
// How ggml-bulk.cu copies a span: as BOXES boxes of WIDTH bytes of 16 rows each, so that rows start on 16 bytes. WIDTH is at most
// 256, and an odd number of times 16: eight rows lie in different banks. Elsewhere rows start where they start in memory.
#ifdef LLCUDA_BULK
constexpr int BOXES = is_same<Format, q8_0> ? 2 : 1;
constexpr int WIDTH = is_same<Format, q6_k> ? 240 : is_same<Format, q5_k> ? 176 : 144;
#else
constexpr int BOXES = 1, WIDTH = 0;
#endif
constexpr int BOX_BYTES = 16 * WIDTH;

// Codes of `bits` bits, one a byte. The exponent's lowest bit may lie in their byte: LOW.
template <int bits>
struct Code {
  static constexpr int AT = !BRAIN ? 8 - bits : bits == 2 ? 5 : 0; // of its lowest bit
  static constexpr int START = 1 << ((BRAIN ? 7 : 10) - AT);
  static constexpr u32 EXPONENT = BRAIN ? u32(134 - AT) << 7 : u32(25 - AT) << 10;
  static constexpr u32 HIGH = (EXPONENT >> 8) * 0x01010101u, LOW = (EXPONENT & 255u) * 0x01010101u;
};

// bits & mask | others, in one operation: left to itself, the compiler makes two of it where both are constants.
__device__ __forceinline__ u32 mask_and_add(u32 bits, u32 mask, u32 others) {
  u32 r;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(r) : "r"(bits), "r"(mask), "r"(others));
  return r;
}

// `width` bits of every byte, from bit `from` to bit `to`, and `others`.
template <int width>
__device__ __forceinline__ u32 move_bits(u32 bytes, int from, int to, u32 others) {
  const u32 mask = ((1u << width) - 1u) * 0x01010101u;
  return mask_and_add(from > to ? bytes >> (from - to) : bytes << (to - from), mask << to, others);
}

// a + b, in pairs. As a multiplication by one, too: sm_80 has no addition of bf16.
__device__ __forceinline__ u32 add_pairs(u32 a, u32 b) {
  u32 r;
  const u32 one = from_float<scalar_t>(1.0f).bits * 0x00010001u;
  if constexpr (BRAIN) asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(one), "r"(b));
  else asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(one), "r"(b));
  return r;
}

// Four codes, one a byte.
template <class F, int bits>
__device__ __forceinline__ void widen(u32 (&pairs)[8], int i, u32 codes) {
  u32 low = __byte_perm(codes, Code<bits>::HIGH, 0x4140), high = __byte_perm(codes, Code<bits>::HIGH, 0x4342);
  if constexpr (!F::HAS_MIN) {
    const u32 minus = from_float<scalar_t>(-float(Code<bits>::START + F::BIAS)).bits * 0x00010001u;
    low = add_pairs(low, minus);
    high = add_pairs(high, minus);
  }
  pairs[2 * i] = low;
  pairs[2 * i + 1] = high;
}

// The whole number in byte `i` times d. Exact: both products of the fma are, and so is their difference.
__device__ __forceinline__ float times_byte(float d, u32 bytes, int i) {
  const float start = 8388608.0f;
  return fmaf(d, __uint_as_float(__byte_perm(bytes, 0x4b000000u, 0x7440 + i)), -start * d);
}

// Scales and mins of a chunk's groups.
template <class F>
struct ChunkScales {
  static constexpr int GROUPS = CHUNK / F::GROUP;
  float scale[GROUPS], min[GROUPS];
};

// The two small blocks of a chunk. Of two boxes (Q8_0), the second begins 128 bytes further, within the second chunk.
template <class F>
__device__ __forceinline__ const u8* blocks_of(const u8* span, int c) {
  return span + 2 * F::BYTES * c + (BOXES == 2 && c >= 2 ? BOX_BYTES - 128 : 0);
}

// What readers have in common.
template <class F, int bits = 0>
struct Common {
  static constexpr int START = F::HAS_MIN ? Code<bits>::START : 0; // what registers are above q
  static constexpr bool LEVELS = false; // needs a table, which fill() makes at the start of shared memory
  static __device__ __forceinline__ void fill() {}
  static __device__ __forceinline__ ChunkScales<F> scales(const u8* span, int c) {
    ChunkScales<F> s;
#pragma unroll
    for (int i = 0; i < s.GROUPS; i++) {
      const Scale one = F::VALUES == 32 ? F::scale_of(blocks_of<F>(span, c), i) : F::scale_of(span, s.GROUPS * c + i);
      s.scale[i] = one.scale;
      s.min[i] = one.min;
    }
    return s;
  }
};

// A reader of F: pairs (a row's span, chunk, lane's t) -> 16 values.
template <class F>
struct Reader;

// ---- blocks of 32: a chunk is two of them, of which every other one may begin between two words ------------------------

// Word t of those that begin `begin` bytes into a pair of blocks.
template <int begin>
__device__ __forceinline__ u32 word_of(const u8* blocks, int t) {
  return load_4<begin % 4 == 0 ? 4 : 2>(blocks + begin + 4 * t);
}

// Nibbles behind QS bytes: one word of a lane in each block, the lower nibbles 16 values before the upper ones.
template <class F, int QS, int bits>
struct Small : Common<F, bits> {
  static __device__ __forceinline__ void pairs(u32 (&out)[8], const u8* span, int c, int t) {
    const u8* blocks = blocks_of<F>(span, c);
    decode<0>(out, blocks, t);
    decode<1>(out, blocks, t);
  }
  template <int block>
  static __device__ __forceinline__ void decode(u32 (&out)[8], const u8* blocks, int t) {
    constexpr int begin = block * F::BYTES + QS, AT = Code<bits>::AT;
    const u32 word = word_of<begin>(blocks, t);
    u32 high = 0;
    if constexpr (bits == 5) high = word_of<begin - 4>(blocks, 0) >> 4 * t;
#pragma unroll
    for (int upper = 0; upper < 2; upper++) {
      u32 others = Code<bits>::LOW;
      if constexpr (bits == 5) {
        others = mask_and_add((high >> 16 * upper & 15u) * (0x00204081u << (AT + 4)), 0x01010101u << (AT + 4), others);
      }
      widen<F, bits>(out, 2 * block + upper, move_bits<4>(word, 4 * upper, AT, others));
    }
  }
};
template <>
struct Reader<q4_0> : Small<q4_0, 2, 4> {};
template <>
struct Reader<q4_1> : Small<q4_1, 4, 4> {};
template <>
struct Reader<q5_0> : Small<q5_0, 6, 5> {};
template <>
struct Reader<q5_1> : Small<q5_1, 8, 5> {};

// Signed bytes. In f16 they are the lower bytes of 1024 + u, u = q + 128. In bf16 the seven lower bits of 128 + u and the sign s
// of -128 - 128 s are added: whole numbers of at most eight bits, so nothing is rounded.
template <>
struct Reader<q8_0> : Common<q8_0> {
  static __device__ __forceinline__ void widen(u32 (&out)[8], int i, u32 word) {
    if constexpr (BRAIN) {
      const u32 low = word & 0x7f7f7f7fu, sign = word & 0x80808080u;
      out[2 * i] = add_pairs(__byte_perm(low, 0x43434343u, 0x4140), __byte_perm(sign, 0xc3c3c3c3u, 0x4140));
      out[2 * i + 1] = add_pairs(__byte_perm(low, 0x43434343u, 0x4342), __byte_perm(sign, 0xc3c3c3c3u, 0x4342));
    } else {
      const u32 above = word ^ 0x80808080u, minus = 0xe480e480u; // -1152
      out[2 * i] = add_pairs(__byte_perm(above, 0x64646464u, 0x4140), minus);
      out[2 * i + 1] = add_pairs(__byte_perm(above, 0x64646464u, 0x4342), minus);
    }
  }
  static __device__ __forceinline__ void pairs(u32 (&out)[8], const u8* span, int c, int t) {
    const u32* words = reinterpret_cast<const u32*>(blocks_of<q8_0>(span, c)) + 2 * t;
    const u32 a = words[0], b = words[1], next = words[2];
    widen(out, 0, __byte_perm(a, b, 0x5432));
    widen(out, 1, __byte_perm(b, next, 0x5432));
    widen(out, 2, words[9]);
    widen(out, 3, words[10]);
  }
};

// ---- blocks of 256 ---------------------------------------------------------------------------------------------------

// d, dmin | 12 bytes of scales and mins | fifth bits | nibbles at QS. Rows start on 16 bytes.
template <class F, int QS, int bits>
struct Nibbles256 : Common<F, bits> {
  static __device__ __forceinline__ void pairs(u32 (&out)[8], const u8* span, int c, int t) {
    constexpr int AT = Code<bits>::AT;
    const uint2 words = *reinterpret_cast<const uint2*>(span + QS + 32 * c + 8 * t);
    uint2 high = {0, 0};
    if constexpr (bits == 5) high = *reinterpret_cast<const uint2*>(span + 16 + 8 * t);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      u32 others = Code<bits>::LOW;
      if constexpr (bits == 5) others = move_bits<1>(i % 2 ? high.y : high.x, 2 * c + i / 2, AT + 4, others);
      widen<F, bits>(out, i, move_bits<4>(i % 2 ? words.y : words.x, i / 2 * 4, AT, others));
    }
  }
  // Both scales and both mins at once, a byte each. The last four groups have their lower four bits in the last bytes.
  static __device__ __forceinline__ ChunkScales<F> scales(const u8* span, int c) {
    const uint4 head = *reinterpret_cast<const uint4*>(span); // d, dmin | two bits, six bits of scales | of mins | four bits
    const u32 take = c % 2 ? 0x7632u : 0x5410u;
    const u32 six = __byte_perm(head.y, head.z, take), four = __byte_perm(head.w, head.w >> 4, take) & 0x0f0f0f0fu;
    const u32 codes = c < 2 ? six & 0x3f3f3f3fu : four | (six >> 2 & 0x30303030u);
    const float d = to_float(f16{(unsigned short)(head.x)}), dmin = to_float(f16{(unsigned short)(head.x >> 16)});
    return {{times_byte(d, codes, 0), times_byte(d, codes, 1)}, {times_byte(dmin, codes, 2), times_byte(dmin, codes, 3)}};
  }
};
template <>
struct Reader<q4_k> : Nibbles256<q4_k, 16, 4> {};
template <>
struct Reader<q5_k> : Nibbles256<q5_k, 48, 5> {};

template <>
struct Reader<q2_k> : Common<q2_k, 2> {
  static __device__ __forceinline__ void pairs(u32 (&out)[8], const u8* span, int c, int t) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const u32 four = load_4<4>(span + 16 + c / 2 * 32 + i % 2 * 16 + 4 * t);
      widen<q2_k, 2>(out, i, move_bits<2>(four, 2 * (c % 2 * 2 + i / 2), Code<2>::AT, Code<2>::LOW));
    }
  }
  static __device__ __forceinline__ ChunkScales<q2_k> scales(const u8* span, int c) {
    const u32 four = load_4<4>(span + 4 * c);
    const float d = load_half(span + 80), dmin = load_half(span + 82);
    ChunkScales<q2_k> s;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      s.scale[i] = times_byte(d, low_nibbles(four), i);
      s.min[i] = times_byte(dmin, low_nibbles(four >> 4), i);
    }
    return s;
  }
};

template <>
struct Reader<q3_k> : Common<q3_k> {
  static __device__ __forceinline__ void pairs(u32 (&out)[8], const u8* span, int c, int t) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int l = i % 2 * 16 + 4 * t, j = c % 2 * 2 + i / 2;
      const u32 low = move_bits<2>(load_4<2>(span + 32 + c / 2 * 32 + l), 2 * j, Code<3>::AT, Code<3>::LOW);
      widen<q3_k, 3>(out, i, move_bits<1>(load_4<2>(span + l), c / 2 * 4 + j, Code<3>::AT + 2, low));
    }
  }
};

template <>
struct Reader<q6_k> : Common<q6_k> {
  static __device__ __forceinline__ void pairs(u32 (&out)[8], const u8* span, int c, int t) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int v = 16 * i + 4 * t, h = c / 2, s = c % 2;
      const u32 low = move_bits<4>(load_4<2>(span + 64 * h + v), 4 * s, Code<6>::AT, Code<6>::LOW);
      const u32 high = load_4<2>(span + 128 + 32 * h + v % 32);
      widen<q6_k, 6>(out, i, move_bits<2>(high, 2 * (2 * s + i / 2), Code<6>::AT + 4, low));
    }
  }
  static __device__ __forceinline__ ChunkScales<q6_k> scales(const u8* span, int c) {
    const u32 four = load_4<2>(span + 192 + 4 * c) ^ 0x80808080u; // 128 added to each
    const float d = load_half(span + 208);
    ChunkScales<q6_k> s;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      s.scale[i] = d * (__uint_as_float(__byte_perm(four, 0x4b000000u, 0x7440 + i)) - 8388736.0f);
      s.min[i] = 0.0f;
    }
    return s;
  }
};

// ---- levels: a table in shared memory has both levels of every byte, once for each lane ---------------------------------

constexpr int LEVELS_BYTES = 256 * 32 * 4;
extern __shared__ __align__(128) u8 shared[];

template <class F>
struct Levels : Common<F> {
  static constexpr bool LEVELS = true;
  static __device__ __forceinline__ void fill() {
    for (int at = threadIdx.x; at < LEVELS_BYTES / 4; at += blockDim.x) {
      const u32 both = iq4_levels((at >> 5 & 15u) | (at >> 9) << 8);
      reinterpret_cast<u32*>(shared)[at] = u32(from_float<scalar_t>(float(int(both & 255u) - 128)).bits) |
                                           u32(from_float<scalar_t>(float(int(both >> 8 & 255u) - 128)).bits) << 16;
    }
  }
  // A word of nibbles: four values of the lower ones, and the four that are 16 further.
  static __device__ __forceinline__ void look_up(u32 (&out)[8], int block, u32 word) {
    const u32 mine = threadIdx.x % 32 * 4;
    u32 both[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const u32 shifted = i == 0 ? word << 7 : word >> (8 * i - 7);
      both[i] = *reinterpret_cast<const u32*>(shared + ((shifted & 0x7f80u) | mine));
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
      out[4 * block + i] = __byte_perm(both[2 * i], both[2 * i + 1], 0x5410);
      out[4 * block + 2 + i] = __byte_perm(both[2 * i], both[2 * i + 1], 0x7632);
    }
  }
};
template <>
struct Reader<iq4_nl> : Levels<iq4_nl> {
  static __device__ __forceinline__ void pairs(u32 (&out)[8], const u8* span, int c, int t) {
    const u8* blocks = blocks_of<iq4_nl>(span, c);
    look_up(out, 0, word_of<2>(blocks, t));
    look_up(out, 1, word_of<20>(blocks, t));
  }
};
template <>
struct Reader<iq4_xs> : Levels<iq4_xs> {
  static __device__ __forceinline__ void pairs(u32 (&out)[8], const u8* span, int c, int t) {
#pragma unroll
    for (int block = 0; block < 2; block++) look_up(out, block, load_4<4>(span + 8 + (2 * c + block) * 16 + 4 * t));
  }
};
