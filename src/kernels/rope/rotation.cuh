// Rotary embedding, shared by the kernels rope and rope_store so that they give the same bits.
//
// A block serves one token and up to HEADS_PER_BLOCK of its head rows. Phase 1 (fill_angles) makes the token's table of
// cos and sin in shared memory, one pair of values per frequency; phase 2 (rotate_row) turns head rows with it. So the
// trigonometry is done once per eight heads and costs little beside the memory traffic.
#pragma once
#include "../common/types.cuh"

inline constexpr int ROPE_THREADS = 128;
inline constexpr int HEADS_PER_BLOCK = 8;
inline constexpr int MAX_HEAD_DIM = 256;

// How far to turn; see RopeAngles in rope.ts.
struct Angles {
  const i32* positions;
  const float* frequencies;
  const i32* query_starts;
  const i32* sequence_lengths;
  i32 sequences;
  float dynamic_factor; // 0: longer sequences have a table of their own, behind the first
  i32 trained_context;  // beyond it frequencies change; 0: never
  float attention_scale;
  i32 rotary_dim;
};

struct AngleTable {
  float cos[MAX_HEAD_DIM / 2];
  float sin[MAX_HEAD_DIM / 2];
};

// sin and cos of a float32 angle, |x| < 2^21, to an absolute error of 1.2e-7 (checked on the host over that range).
//
// The library's sincosf is as good but keeps a slow path for larger angles, with an array in local memory. Here x is
// brought into [-pi/4, pi/4] by subtracting k * pi/2, with pi/2 in three parts (Cody and Waite). Each subtraction is one
// fused multiply-add: the first is exact, for k has at most 21 bits and the result fits 24; what the others round away
// is relative to a result below 1. Then Taylor polynomials, whose first omitted terms are 4e-9 (x^11 / 11!) and 3e-10
// (x^12 / 12!) at 0.85: k is rounded from a float32 product, so the reduced angle may pass pi/4 a little.
__host__ __device__ __forceinline__ void sincos_reduced(float x, float* sine, float* cosine) {
  const float k = rintf(x * 0.636619772f);
  float r = fmaf(k, -1.57079637e+00f, x);
  r = fmaf(k, 4.37113900e-08f, r);
  r = fmaf(k, 1.71512489e-15f, r);
  const float r2 = r * r;
  float s = fmaf(r2, 2.75573192e-06f, -1.98412698e-04f);
  s = fmaf(s, r2, 8.33333333e-03f);
  s = fmaf(s, r2, -1.66666667e-01f);
  s = fmaf(s * r2, r, r);
  float c = fmaf(r2, -2.75573192e-07f, 2.48015873e-05f);
  c = fmaf(c, r2, -1.38888889e-03f);
  c = fmaf(c, r2, 4.16666667e-02f);
  c = fmaf(c, r2, -0.5f);
  c = fmaf(c, r2, 1.0f);
  // A quarter turn swaps the two and negates one.
  const int quadrant = int(k) & 3;
  const float a = quadrant & 1 ? c : s;
  const float b = quadrant & 1 ? s : c;
  *sine = quadrant & 2 ? -a : a;
  *cosine = (quadrant + 1) & 2 ? -b : b;
}

// The sequence that token t belongs to: the last b with query_starts[b] <= t. Sequences without new tokens are passed
// over, for their start equals the next one's.
__device__ __forceinline__ i32 sequence_of(i32 t, const i32* query_starts, i32 sequences) {
  i32 low = 0, high = sequences - 1;
  while (low < high) {
    const i32 middle = (low + high + 1) / 2;
    if (query_starts[middle] <= t) low = middle;
    else high = middle - 1;
  }
  return low;
}

// The length of the token's sequence where that changes its frequencies, else 0.
__device__ __forceinline__ i32 length_beyond_trained(const Angles& a, i32 token) {
  if (a.trained_context == 0) return 0;
  const i32 length = a.sequence_lengths[sequence_of(token, a.query_starts, a.sequences)];
  return length > a.trained_context ? length : 0;
}

// log2 of the number whose powers stretch the frequencies of "dynamic" scaling. In double, and once per token: it is
// multiplied by a position later.
__device__ __forceinline__ double dynamic_stretch(const Angles& a, i32 length) {
  const double factor = a.dynamic_factor;
  return log2(factor * length / a.trained_context - (factor - 1.0));
}

// Phase 1. The angle is position * frequency rounded to float32, as the reference computes it.
__device__ __forceinline__ void fill_angles(AngleTable& table, const Angles& a, i32 token) {
  const int pairs = a.rotary_dim / 2;
  if (pairs == 0) return;
  const float position = float(a.positions[token]);
  const i32 length = length_beyond_trained(a, token);
  const bool is_dynamic = a.dynamic_factor != 0.0f;
  const double stretch = length && is_dynamic ? dynamic_stretch(a, length) : 0.0;
  const float* frequencies = a.frequencies + (length && !is_dynamic ? pairs : 0);
#pragma unroll 1
  for (int i = threadIdx.x; i < pairs; i += ROPE_THREADS) {
    float frequency = frequencies[i];
    if (stretch != 0.0) frequency = float(frequency * exp2(-2.0 * i / (a.rotary_dim - 2) * stretch));
    float s, c;
    sincos_reduced(position * frequency, &s, &c);
    table.sin[i] = s * a.attention_scale;
    table.cos[i] = c * a.attention_scale;
  }
}

// What elements i … i + N of a head row are before they are turned: as they are, or normalised (head-norm.cuh).
struct AsTheyAre {
  template <int N>
  __device__ __forceinline__ Vec<float, N> operator()(Vec<scalar_t, N> x, int) const { return to_floats(x); }
};

// Phase 2 for N neighbouring pairs, first of them `i`: out[i], out[i + pairs] = (x[i], x[i + pairs]) turned.
// Read before written, so out may be x.
template <int N, typename Prepare>
__device__ __forceinline__ void rotate_pairs(scalar_t* out, const scalar_t* x, const AngleTable& table, int i, int pairs, const Prepare& prepare) {
  using V = Vec<scalar_t, N>;
  const Vec<float, N> low = prepare(*reinterpret_cast<const V*>(x + i), i);
  const Vec<float, N> high = prepare(*reinterpret_cast<const V*>(x + i + pairs), i + pairs);
  V turned_low, turned_high;
#pragma unroll
  for (int j = 0; j < N; j++) {
    const float a = low[j], b = high[j];
    const float c = table.cos[i + j], s = table.sin[i + j];
    turned_low[j] = from_float<scalar_t>(a * c - b * s);
    turned_high[j] = from_float<scalar_t>(b * c + a * s);
  }
  *reinterpret_cast<V*>(out + i) = turned_low;
  *reinterpret_cast<V*>(out + i + pairs) = turned_high;
}

// One item of a head row: item `n` of `row_items` is N pairs to turn, or N elements beyond rotary_dim to pass on.
template <int N, typename Prepare = AsTheyAre>
__device__ __forceinline__ void rotate_item(scalar_t* out, const scalar_t* x, const AngleTable& table, int n, int rotary_dim, const Prepare& prepare = {}) {
  using V = Vec<scalar_t, N>;
  const int pairs = rotary_dim / 2;
  const int i = rotary_dim + (n - pairs / N) * N;
  if (n < pairs / N) {
    rotate_pairs<N>(out, x, table, n * N, pairs, prepare);
  } else if constexpr (!is_same<Prepare, AsTheyAre>) {
    *reinterpret_cast<V*>(out + i) = from_floats<scalar_t>(prepare(*reinterpret_cast<const V*>(x + i), i));
  } else if (out != x) {
    *reinterpret_cast<V*>(out + i) = *reinterpret_cast<const V*>(x + i); // the same bits, NaN's too
  }
}

template <int N>
__device__ __forceinline__ int row_items(int head_dim, int rotary_dim) {
  return rotary_dim / 2 / N + (head_dim - rotary_dim) / N;
}

// 16-byte accesses need every piece of a row to start on a multiple of 16 bytes.
__device__ __forceinline__ bool is_vectorable(int head_dim, int rotary_dim, i64 strides, u64 addresses) {
  return head_dim % VEC == 0 && rotary_dim / 2 % VEC == 0 && strides % VEC == 0 && addresses % 16 == 0;
}
