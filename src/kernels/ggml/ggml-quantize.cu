// Quantization to GGML's K types: out[b] = the block of values x[256 b .. 256 b + 255]; layouts in blocks.cuh.
//
// x [256 B] f32, out [B] blocks. What is searched for, and in which order sums are added, is what llama.cpp's reference does
// without an importance matrix (quantize_row_q*_K_ref in ggml-quants.c): its x86-64 builds, which fuse nothing, give the same
// bytes. So every sum is one thread's, and no operation is fused (struct Real), on any target.
//
//   1. A thread has a group of 16 or 32 values. It looks for the group's scale (and min) that leaves the least weighted error:
//      it tries about 20 widths of a step, rounds the values to codes, and solves for the scale that fits these codes best.
//   2. The threads of a block agree on d (and dmin): the largest scale, in float16. Scales become whole multiples of it.
//   3. Values are rounded again, to the scales that are left, and the warp packs their codes.
//
// A warp takes 4 blocks of 8 groups or 2 of 16, through shared memory: x [32 groups][pitch], odd pitch against bank conflicts.
// Traffic: 4 bytes a value read, up to 0.82 written. Bound by arithmetic: 171 (Q3_K), 396 (Q6_K) to 825 (Q4_K) instructions a
// value, 42 to 146 billion values a second on an H200, far more than files give.
// A block with a value that is not finite gets NaN for its d.
#include "../common/launch.cuh"
#include "../common/reduce.cuh"

constexpr int BLOCK = 256, THREADS = 128;

// A float32 whose operations are rounded one by one: the compiler fuses a * b + c otherwise, on every target in its own places.
struct Real {
  float v;
  __device__ __forceinline__ Real() {}
  __device__ __forceinline__ Real(float x) : v(x) {}
  __device__ __forceinline__ Real operator-() const { return -v; }
  __device__ __forceinline__ void operator+=(Real b) { v = __fadd_rn(v, b.v); }
};
__device__ __forceinline__ Real operator+(Real a, Real b) { return __fadd_rn(a.v, b.v); }
__device__ __forceinline__ Real operator-(Real a, Real b) { return __fsub_rn(a.v, b.v); }
__device__ __forceinline__ Real operator*(Real a, Real b) { return __fmul_rn(a.v, b.v); }
__device__ __forceinline__ Real operator/(Real a, Real b) { return __fdiv_rn(a.v, b.v); }
__device__ __forceinline__ bool operator<(Real a, Real b) { return a.v < b.v; }
__device__ __forceinline__ bool operator>(Real a, Real b) { return a.v > b.v; }
__device__ __forceinline__ Real absolute(Real x) { return fabsf(x.v); }

// The nearest whole number, ties to even, from `least` to `most`: 1.5 * 2^23 leaves no bits for fractions.
__device__ __forceinline__ Real code_of(Real x, float least, float most) {
  const Real shift = 12582912.0f;
  return fminf(fmaxf((x + shift - shift).v, least), most);
}
__device__ __forceinline__ int nearest(Real x) { return int(code_of(x, -4194304.0f, 4194303.0f).v); }

__device__ __forceinline__ Real through_half(Real x) { return to_float(from_float<f16>(x.v)); }
__device__ __forceinline__ void store_half(u8* p, Real x) { *reinterpret_cast<f16*>(p) = from_float<f16>(x.v); }

// What a search finds: values are about scale * code - min. The codes themselves go to memory.
struct Fit {
  Real scale, min;
};

// Codes 0 to MOST with a min that is not above zero. The error is weighted by base + |x|; squared, or absolute.
template <int N, int MOST, int STEPS, bool ABSOLUTE>
__device__ __forceinline__ Fit fit_affine(const float* x, u8* codes, Real base, Real first) {
  Real least = x[0], most = x[0];
  Real sum_w = base + absolute(x[0]), sum_x = sum_w * x[0];
#pragma unroll 4
  for (int i = 1; i < N; i++) {
    const Real value = x[i], w = base + absolute(value);
    if (value < least) least = value;
    if (value > most) most = value;
    sum_w += w;
    sum_x += w * value;
  }
  if (least > 0.0f) least = 0.0f;
  const bool flat = most.v == least.v;
  Real inverse = flat ? Real(0.0f) : Real(float(MOST)) / (most - least);
  // The best so far, and what its codes are made from.
  Real scale = flat ? Real(0.0f) : Real(1.0f) / inverse, low = least, best_inverse = inverse, best_low = least, best_error;
  for (int step = -1; step <= STEPS && !flat; step++) {
    Real new_scale = scale, new_low = low;
    if (step >= 0) {
      if (most.v == low.v) break;
      inverse = (first + Real(0.1f) * float(step) + float(MOST)) / (most - low);
      Real sum_l = 0.0f, sum_l2 = 0.0f, sum_xl = 0.0f;
#pragma unroll 4
      for (int i = 0; i < N; i++) {
        const Real value = x[i], l = code_of(inverse * (value - low), 0.0f, MOST), wl = (base + absolute(value)) * l;
        sum_l += wl;
        sum_l2 += wl * l;
        sum_xl += wl * value;
      }
      const Real determinant = sum_w * sum_l2 - sum_l * sum_l;
      if (!(determinant > 0.0f)) continue;
      new_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
      new_low = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
      if (new_low > 0.0f) {
        new_low = 0.0f;
        new_scale = sum_xl / sum_l2;
      }
    }
    Real error = 0.0f;
#pragma unroll 4
    for (int i = 0; i < N; i++) {
      const Real value = x[i], l = code_of(inverse * (value - low), 0.0f, MOST);
      const Real difference = new_scale * l + new_low - value;
      error += (base + absolute(value)) * (ABSOLUTE ? absolute(difference) : difference * difference);
    }
    if (step < 0 || error < best_error) {
      best_error = error;
      best_inverse = inverse;
      best_low = low;
      scale = new_scale;
      low = new_low;
    }
  }
#pragma unroll 4
  for (int i = 0; i < N; i++) codes[i] = u8(code_of(best_inverse * (x[i] - best_low), 0.0f, MOST).v);
  return {scale, -low};
}

// Below this a group counts as zeros (GROUP_MAX_EPS).
constexpr float SMALLEST = 1e-15f;

// The value furthest from zero, the first of equals.
template <int N>
__device__ __forceinline__ Real furthest(const float* x) {
  Real found = 0.0f;
#pragma unroll 4
  for (int i = 0; i < N; i++)
    if (absolute(x[i]) > absolute(found)) found = x[i];
  return found;
}

// Codes -HALF to HALF - 1, stored with HALF added; the squared error is weighted by x^2.
template <int N, int HALF>
__device__ __forceinline__ Real fit_symmetric(const float* x, u8* codes) {
  const Real far = furthest<N>(x);
  const bool empty = absolute(far) < SMALLEST;
  Real scale = 0.0f, best = 0.0f, best_inverse = 0.0f;
  // The plain step first, then those beside it.
  for (int turn = 0; turn < 19 && !empty; turn++) {
    const int step = turn == 0 ? 0 : turn <= 9 ? turn - 10 : turn - 9;
    const Real inverse = -(Real(float(HALF)) + Real(0.1f) * float(step)) / far;
    Real sum_xl = 0.0f, sum_l2 = 0.0f;
#pragma unroll 4
    for (int i = 0; i < N; i++) {
      const Real value = x[i], l = code_of(inverse * value, -HALF, HALF - 1), w = value * value;
      sum_xl += w * value * l;
      sum_l2 += w * l * l;
    }
    if (turn == 0 || (sum_l2 > 0.0f && sum_xl * sum_xl > best * sum_l2)) {
      scale = sum_l2.v != 0.0f ? sum_xl / sum_l2 : Real(0.0f);
      best = scale * sum_xl;
      best_inverse = inverse;
    }
  }
#pragma unroll 4
  for (int i = 0; i < N; i++) codes[i] = empty ? 0 : u8(code_of(best_inverse * x[i], -HALF, HALF - 1).v + HALF);
  return scale;
}

// The same for few codes: each in turn is moved to where it would be best, up to five times.
template <int N, int HALF>
__device__ __forceinline__ Real fit_in_turns(const float* x, u8* codes) {
  const Real far = furthest<N>(x);
  if (absolute(far) < SMALLEST) {
    for (int i = 0; i < N; i++) codes[i] = 0;
    return 0.0f;
  }
  const Real inverse = Real(-float(HALF)) / far;
  Real sum_xl = 0.0f, sum_l2 = 0.0f;
#pragma unroll 4
  for (int i = 0; i < N; i++) {
    const Real value = x[i], l = code_of(inverse * value, -HALF, HALF - 1), w = value * value;
    codes[i] = u8(l.v + HALF);
    sum_xl += w * value * l;
    sum_l2 += w * l * l;
  }
  bool changed = true;
  for (int turn = 0; turn < 5 && changed; turn++) {
    changed = false;
    for (int i = 0; i < N; i++) {
      const Real value = x[i], w = value * value, l = float(int(codes[i]) - HALF);
      Real xl = sum_xl - w * value * l;
      if (!(xl > 0.0f)) continue;
      Real l2 = sum_l2 - w * l * l;
      const Real moved = code_of(value * l2 / xl, -HALF, HALF - 1);
      if (moved.v == l.v) continue;
      xl += w * value * moved;
      l2 += w * moved * moved;
      if (l2 > 0.0f && xl * xl * sum_l2 > sum_xl * sum_xl * l2) {
        codes[i] = u8(moved.v + HALF);
        sum_xl = xl;
        sum_l2 = l2;
        changed = true;
      }
    }
  }
  return sum_l2 > 0.0f ? sum_xl / sum_l2 : Real(0.0f);
}

// N fields of a word's bytes, `stride` words apart, below each other: field j is shifted up by j * bits.
template <int N>
__device__ __forceinline__ u32 merge(const u32* words, int stride, int shift, u32 mask, int bits) {
  u32 merged = 0;
#pragma unroll
  for (int j = 0; j < N; j++) merged |= (words[j * stride] >> shift & mask) << j * bits;
  return merged;
}
constexpr u32 NIBBLES = 0x0f0f0f0fu, PAIRS = 0x03030303u, ONES = 0x01010101u;

// A type says how a group is searched, what a block's scales become (`finish`, by the lane of group g: writes them and gives
// what values are rounded to), and how words of four codes are packed (by all 32 lanes).

// Scales of 6 bits with mins. `finish` is the same for both types.
template <int MOST, int STEPS>
struct WithMins {
  static constexpr int GROUP = 32, OFFSET = 0, LEAST = 0, GREATEST = MOST;
  static __device__ __forceinline__ Fit search(const float* x, u8* codes, Real first) {
    Real squares = 0.0f;
#pragma unroll 4
    for (int i = 0; i < GROUP; i++) squares += Real(x[i]) * x[i];
    const Real mean = __fsqrt_rn((squares / 32.0f).v);
    return fit_affine<GROUP, MOST, STEPS, false>(x, codes, mean, first);
  }
  static __device__ __forceinline__ Fit finish(Fit fit, u8* out, u8* codes, int g) {
    const Real scale = fmaxf(warp_reduce<Max, 8>(fit.scale.v), 0.0f), deep = fmaxf(warp_reduce<Max, 8>(fit.min.v), 0.0f);
    const Real to_scale = scale > 0.0f ? Real(63.0f) / scale : Real(0.0f), to_min = deep > 0.0f ? Real(63.0f) / deep : Real(0.0f);
    // Through a byte, as the reference does: a negative one, which a search can give, becomes the largest.
    const u32 s = min(63, nearest(to_scale * fit.scale) & 255), m = min(63, nearest(to_min * fit.min) & 255);
    const u32 s4 = __shfl_down_sync(FULL_WARP, s, 4, 8), m4 = __shfl_down_sync(FULL_WARP, m, 4, 8);
    if (g < 4) {
      out[4 + g] = u8(s | s4 >> 4 << 6);
      out[8 + g] = u8(m | m4 >> 4 << 6);
      out[12 + g] = u8((s4 & 15u) | (m4 & 15u) << 4);
    }
    if (g == 0) {
      store_half(out, scale / 63.0f);
      store_half(out + 2, deep / 63.0f);
    }
    return {through_half(scale / 63.0f) * float(s), through_half(deep / 63.0f) * float(m)};
  }
};

struct q4_k : WithMins<15, 20> {
  static constexpr int BYTES = 144, SCALE_AT = 0;
  static __device__ __forceinline__ Fit fit(const float* x, u8* codes) { return search(x, codes, -1.0f); }
  static __device__ __forceinline__ void pack(const u32* codes, u32* out, int lane) {
    out[4 + lane] = merge<2>(codes + lane / 8 * 16 + lane % 8, 8, 0, NIBBLES, 4);
  }
};

struct q5_k : WithMins<31, 15> {
  static constexpr int BYTES = 176, SCALE_AT = 0;
  static __device__ __forceinline__ Fit fit(const float* x, u8* codes) { return search(x, codes, -0.5f); }
  static __device__ __forceinline__ void pack(const u32* codes, u32* out, int lane) {
    out[12 + lane] = merge<2>(codes + lane / 8 * 16 + lane % 8, 8, 0, NIBBLES, 4);
    if (lane < 8) out[4 + lane] = merge<8>(codes + lane, 8, 4, ONES, 1);
  }
};

struct q2_k {
  static constexpr int GROUP = 16, BYTES = 84, SCALE_AT = 80, OFFSET = 0, LEAST = 0, GREATEST = 3;
  static __device__ __forceinline__ Fit fit(const float* x, u8* codes) {
    return fit_affine<GROUP, 3, 15, true>(x, codes, 0.0f, -0.5f);
  }
  static __device__ __forceinline__ Fit finish(Fit fit, u8* out, u8* codes, int g) {
    const Real scale = fmaxf(warp_reduce<Max, 16>(fit.scale.v), 0.0f), deep = fmaxf(warp_reduce<Max, 16>(fit.min.v), 0.0f);
    const u32 s = scale > 0.0f ? nearest(Real(15.0f) / scale * fit.scale) & 255 : 0;
    const u32 m = deep > 0.0f ? nearest(Real(15.0f) / deep * fit.min) & 255 : 0;
    const u32 both = (s | m << 4) & 255u;
    out[g] = u8(both);
    if (g == 0) {
      store_half(out + 80, scale / 15.0f);
      store_half(out + 82, deep / 15.0f);
    }
    return {through_half(scale / 15.0f) * float(both & 15u), through_half(deep / 15.0f) * float(both >> 4)};
  }
  static __device__ __forceinline__ void pack(const u32* codes, u32* out, int lane) {
    if (lane < 16) out[4 + lane] = merge<4>(codes + lane / 8 * 32 + lane % 8, 8, 0, PAIRS, 2);
  }
};

// Of the scales of a block's 16 groups the one furthest from zero, with its sign.
__device__ __forceinline__ Real furthest_scale(Real scale) {
  Real found = 0.0f;
#pragma unroll 4
  for (int g = 0; g < 16; g++) {
    const Real other = __shfl_sync(FULL_WARP, scale.v, g, 16);
    if (absolute(other) > absolute(found)) found = other;
  }
  return found;
}

struct q3_k {
  static constexpr int GROUP = 16, BYTES = 110, SCALE_AT = 108, OFFSET = 4, LEAST = -4, GREATEST = 3;
  static __device__ __forceinline__ Fit fit(const float* x, u8* codes) { return {fit_in_turns<GROUP, 4>(x, codes), 0.0f}; }
  static __device__ __forceinline__ Fit finish(Fit fit, u8* out, u8* codes, int g) {
    const Real far = furthest_scale(fit.scale);
    const bool empty = far.v == 0.0f;
    const Real inverse = empty ? Real(0.0f) : Real(-32.0f) / far, d = empty ? Real(0.0f) : Real(1.0f) / inverse;
    const u32 s = empty ? 0 : int(code_of(inverse * fit.scale, -32.0f, 31.0f).v) + 32;
    const u32 s4 = __shfl_down_sync(FULL_WARP, s, 4, 16), s8 = __shfl_down_sync(FULL_WARP, s, 8, 16);
    const u32 s12 = __shfl_down_sync(FULL_WARP, s, 12, 16);
    if (g < 8) out[96 + g] = u8((s & 15u) | (s8 & 15u) << 4);
    if (g < 4) out[104 + g] = u8(s >> 4 | s4 >> 4 << 2 | s8 >> 4 << 4 | s12 >> 4 << 6);
    if (g == 0) store_half(out + 108, d);
    return {through_half(d) * float(int(s) - 32), 0.0f};
  }
  static __device__ __forceinline__ void pack(const u32* codes, u32* out, int lane) {
    if (lane < 16) out[8 + lane] = merge<4>(codes + lane / 8 * 32 + lane % 8, 8, 0, PAIRS, 2);
    if (lane < 8) out[lane] = merge<8>(codes + lane, 8, 2, ONES, 1);
  }
};

struct q6_k {
  static constexpr int GROUP = 16, BYTES = 210, SCALE_AT = 208, OFFSET = 32, LEAST = -32, GREATEST = 31;
  static __device__ __forceinline__ Fit fit(const float* x, u8* codes) { return {fit_symmetric<GROUP, 32>(x, codes), 0.0f}; }
  static __device__ __forceinline__ Fit finish(Fit fit, u8* out, u8* codes, int g) {
    const Real far = furthest_scale(fit.scale);
    const bool empty = absolute(far) < SMALLEST;
    const Real inverse = empty ? Real(0.0f) : Real(-128.0f) / far, d = empty ? Real(0.0f) : Real(1.0f) / inverse;
    const int s = min(127, nearest(inverse * fit.scale));
    if (empty)
      for (int i = 0; i < GROUP; i++) codes[i] = 0;
    out[192 + g] = u8(s);
    if (g == 0) store_half(out + 208, d);
    return {through_half(d) * float(s), 0.0f};
  }
  static __device__ __forceinline__ void pack(const u32* codes, u32* out, int lane) {
    out[lane] = merge<2>(codes + lane / 16 * 32 + lane % 16, 16, 0, NIBBLES, 4);
    if (lane < 16) out[32 + lane] = merge<4>(codes + lane / 8 * 32 + lane % 8, 8, 4, PAIRS, 2);
  }
};

// Says of a block that it cannot be quantized: its d, or one of two scales, becomes NaN.
constexpr unsigned short NOT_A_NUMBER = 0x7fff;

using Type = VARIANT_TYPE;
constexpr u32 ALL_GROUPS = (1u << BLOCK / Type::GROUP) - 1;
constexpr int PITCH = Type::GROUP + 1, GROUPS = BLOCK / Type::GROUP, PER_WARP = 32 / GROUPS, WORDS = (Type::BYTES + 3) / 4;

extern "C" __global__ void __launch_bounds__(THREADS) KERNEL_NAME(u8* out, const float* x, i64 blocks) {
  __shared__ float values[THREADS / 32][32 * PITCH];
  __shared__ u32 words[THREADS / 32][PER_WARP][BLOCK / 4];
  __shared__ u32 packed[THREADS / 32][PER_WARP][WORDS];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, block = lane / GROUPS, g = lane % GROUPS;
  float* mine = values[warp] + lane * PITCH;
  u8* codes = reinterpret_cast<u8*>(words[warp][block]) + g * Type::GROUP;
  u8* head = reinterpret_cast<u8*>(packed[warp][block]);
  for (i64 first = grid_start() / 32 * PER_WARP; first < blocks; first += grid_step() / 32 * PER_WARP) {
    const int present = int(min(i64(PER_WARP), blocks - first));
    for (int at = 4 * lane; at < PER_WARP * BLOCK; at += 128) {
      Vec<float> four = {{0.0f, 0.0f, 0.0f, 0.0f}};
      if (at < present * BLOCK) four = load_vec(x + first * BLOCK + at);
#pragma unroll
      for (int i = 0; i < 4; i++) values[warp][at / Type::GROUP * PITCH + at % Type::GROUP + i] = four[i];
    }
    __syncwarp();
    const Fit left = Type::finish(Type::fit(mine, codes), head, codes, g);
    bool finite = true;
#pragma unroll 4
    for (int i = 0; i < Type::GROUP; i++) finite &= fabsf(mine[i]) < __builtin_huge_valf();
    const u32 odd = __ballot_sync(FULL_WARP, !finite) >> block * GROUPS & ALL_GROUPS;
    if (g == 0 && odd != 0) *reinterpret_cast<unsigned short*>(head + Type::SCALE_AT) = NOT_A_NUMBER;
    // Where a scale became zero the codes of the search stay.
    if (left.scale.v != 0.0f) {
#pragma unroll 4
      for (int i = 0; i < Type::GROUP; i++)
        codes[i] = u8(code_of((mine[i] + left.min) / left.scale, Type::LEAST, Type::GREATEST).v + Type::OFFSET);
    }
    __syncwarp();
    for (int b = 0; b < PER_WARP; b++) Type::pack(words[warp][b], packed[warp][b], lane);
    __syncwarp();
    // Blocks of 110 and 210 bytes begin at even addresses.
    unsigned short* to = reinterpret_cast<unsigned short*>(out + first * Type::BYTES);
    for (int b = 0; b < present; b++) {
      for (int i = lane; i < Type::BYTES / 2; i += 32)
        to[b * (Type::BYTES / 2) + i] = reinterpret_cast<const unsigned short*>(packed[warp][b])[i];
    }
    __syncwarp();
  }
}
