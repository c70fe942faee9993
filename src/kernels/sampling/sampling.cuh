// What the sampling kernels share: parameters, weights as integers, bins, the random number, scans.
// docs/kernels/sampling.md explains the method.
#pragma once
#include "../common/launch.cuh"
#include "../common/ordered-key.cuh"
#include "../common/row-part.cuh"

inline constexpr int SAMPLE_PART = PART_SIZE; // samplePart in sampling.ts
inline constexpr int COARSE = 2048;           // bins of a row's histogram, bin 0 at the largest logit

// Per row, in device memory; zeroed by sampling_max. sampleStateBytes in sampling.ts.
struct RowState {
  u64 mass[COARSE];
  u64 min_p_mass; // of the tokens that min-p keeps
  u32 count[COARSE];
  u32 listed; // entries of the row's list
  u32 unused;
};
static_assert(sizeof(RowState) == 24592, "sampleStateBytes in sampling.ts");

#define SAMPLING_PARAMETERS                                                                                            \
  const scalar_t *logits, i64 logits_stride, i32 vocab, i32 parts, u64 *partials, RowState *states, u32 *listed,       \
      const float *temperature, const i32 *top_k, const float *top_p, const float *min_p, const u64 *seeds,            \
      const u32 *steps, i32 *tokens, i32 greedy_only

// The largest (logit, lowest index) of a row, from what sampling_max left; each warp finds it for itself.
__device__ __forceinline__ u64 row_best(const u64* partials, i64 row, int parts) {
  u64 best = 0;
#pragma unroll 1
  for (int i = threadIdx.x % 32; i < parts; i += 32) {
    const u64 pair = partials[row * parts + i];
    best = pair > best ? pair : best;
  }
  return warp_max_u64(best);
}

// NaN or +inf somewhere, or -inf everywhere: there is no distribution.
__device__ __forceinline__ bool row_failed(u64 best) {
  const u32 key = pair_key(best);
  return key >= KEY_INFINITY || key <= KEY_MINUS_INFINITY;
}

// What a greedy row draws: the largest logit's token, or FAILED.
inline constexpr i32 FAILED = -1; // samplingFailed in sampling.ts
__device__ __forceinline__ i32 greedy_token(u64 best) { return row_failed(best) ? FAILED : i32(pair_index(best)); }

__device__ __forceinline__ bool row_greedy(float temperature, i32 greedy_only) {
  return greedy_only || !(temperature > 0.0f);
}

// ---- weights ---------------------------------------------------------------------------------------------------------

// A token's weight is 2^e, e = (logit - largest) * log2(e) / temperature <= 0, so that the best token's is 1.
// Each operation is written as its rounding instruction: were one kernel to fuse a product and a sum that another does
// not, the two would disagree about a bin.
struct Weights {
  float largest, scale;
  __device__ __forceinline__ Weights(u64 best, float temperature) {
    largest = key_to_float(pair_key(best));
    // Finite even for the smallest temperatures: 0 * infinity would make the best token's exponent NaN.
    scale = fminf(__fdiv_rn(1.4426950408889634f, temperature), 3.0e38f);
  }
  __device__ __forceinline__ float exponent(float logit) const { return __fmul_rn(__fsub_rn(logit, largest), scale); }
};

__device__ __forceinline__ float weight(float exponent) {
  float w;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(w) : "f"(exponent));
  return w;
}

// Weights are summed as integers in units of 2^-39, in which any order gives the same sum: the result does not depend on
// the grid, and atomic additions are allowed. 2^39 * V stays below 2^63 for V < 2^24. Below 2^-40 a weight is 0.
__device__ __forceinline__ u64 mass_of(float w) { return __float2ull_rn(__fmul_rn(w, 549755813888.0f)); }

// Bins of equal width in the exponent: 40 powers of two in 2048 bins, 0.0135 nats each at temperature 1. Rounding is
// monotone, so a larger logit is never in a later bin, and equal logits are in the same.
__device__ __forceinline__ int bin_of(float exponent) {
  return min(COARSE - 1, __float2int_rd(__fmul_rn(exponent, -float(COARSE) / 40.0f)));
}

// ---- histograms in shared memory -------------------------------------------------------------------------------------

// A mass below 2^40 is added as two 20-bit halves, since 32-bit additions are native in shared memory and 64-bit ones are
// not. A half overflows after 4096 additions: fold() before.
inline constexpr int FOLD = 4096;
template <int BINS>
struct SharedHistogram {
  u32 count[BINS], low[BINS], high[BINS];

  __device__ __forceinline__ void clear() {
#pragma unroll 1
    for (int i = threadIdx.x; i < BINS; i += blockDim.x) count[i] = low[i] = high[i] = 0;
  }
  __device__ __forceinline__ void add(int bin, u64 mass) {
    atomicAdd(&count[bin], 1u);
    atomicAdd(&low[bin], u32(mass) & 0xfffffu);
    atomicAdd(&high[bin], u32(mass >> 20));
  }
  // The mass added to a bin since the last call, which starts from 0 again.
  __device__ __forceinline__ u64 fold(int bin) {
    const u64 mass = (u64(high[bin]) << 20) + low[bin];
    low[bin] = high[bin] = 0;
    return mass;
  }
};

// Inclusive prefix sum over the block's threads. Ends with a barrier.
template <int THREADS>
__device__ __forceinline__ u64 block_scan(u64 x) {
  __shared__ u64 warp_sums[THREADS / 32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
  for (int offset = 1; offset < 32; offset *= 2) {
    const u64 below = __shfl_up_sync(0xffffffffu, x, offset);
    if (lane >= offset) x += below;
  }
  if (lane == 31) warp_sums[warp] = x;
  __syncthreads();
#pragma unroll 1
  for (int i = 0; i < warp; i++) x += warp_sums[i];
  __syncthreads();
  return x;
}

// ---- the row's distribution, by bin ----------------------------------------------------------------------------------

// Running sums over the bins, from the most probable.
struct Cumulative {
  u64 mass[COARSE];
  u32 count[COARSE];

  template <int THREADS>
  __device__ __forceinline__ void load(const RowState* state) {
    constexpr int EACH = COARSE / THREADS;
    u64 masses[EACH];
    u32 counts[EACH];
    u64 mass_sum = 0;
    u32 count_sum = 0;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      masses[i] = mass_sum += state->mass[threadIdx.x * EACH + i];
      counts[i] = count_sum += state->count[threadIdx.x * EACH + i];
    }
    const u64 mass_before = block_scan<THREADS>(mass_sum) - mass_sum;
    const u32 count_before = u32(block_scan<THREADS>(count_sum)) - count_sum;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      mass[threadIdx.x * EACH + i] = mass_before + masses[i];
      count[threadIdx.x * EACH + i] = count_before + counts[i];
    }
    __syncthreads();
  }

  // The first bin in which the running sum reaches `target`, 1 <= target <= the total. By bisection, in every thread.
  template <typename T>
  static __device__ __forceinline__ int find(const T* sums, T target) {
    int low = 0;
#pragma unroll 1
    for (int half = COARSE / 2; half > 0; half /= 2)
      if (sums[low + half - 1] < target) low += half;
    return low;
  }
  __device__ __forceinline__ int find_mass(u64 target) const { return find(mass, target); }
  __device__ __forceinline__ int find_count(u32 target) const { return find(count, target); }
  __device__ __forceinline__ u64 mass_before(int bin) const { return bin == 0 ? 0 : mass[bin - 1]; }
  __device__ __forceinline__ u32 count_before(int bin) const { return bin == 0 ? 0 : count[bin - 1]; }
  __device__ __forceinline__ u32 count_in(int bin) const { return count[bin] - count_before(bin); }
};

// ---- the filters, in masses ------------------------------------------------------------------------------------------

// The least mass that top-p asks for of a total: p * total, rounded up, and at least something.
__device__ __forceinline__ u64 top_p_target(float p, u64 total) {
  const u64 target = p > 0.0f ? __double2ull_ru(__dmul_rn(double(p), double(total))) : 1;
  return target < 1 ? 1 : target > total ? total : target;
}

// The place in [1, total] that a random number points to: 1 + floor(random * total / 2^64).
__device__ __forceinline__ u64 draw_target(u64 random, u64 total) { return __umul64hi(random, total) + 1; }

__device__ __forceinline__ u64 least(u64 a, u64 b) { return a < b ? a : b; }

// ---- the random number -----------------------------------------------------------------------------------------------

// Philox4x32-10 (Salmon et al., SC 2011) with the seed as key and the step as counter: 64 bits that depend on nothing else.
__device__ __forceinline__ u64 philox(u64 seed, u32 step) {
  u32 c0 = step, c1 = 0, c2 = 0, c3 = 0;
  u32 k0 = u32(seed), k1 = u32(seed >> 32);
#pragma unroll 1
  for (int round = 0; round < 10; round++) {
    const u64 p0 = u64(0xD2511F53u) * c0, p1 = u64(0xCD9E8D57u) * c2;
    const u32 n0 = u32(p1 >> 32) ^ c1 ^ k0, n2 = u32(p0 >> 32) ^ c3 ^ k1;
    c0 = n0;
    c1 = u32(p1);
    c2 = n2;
    c3 = u32(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return u64(c0) << 32 | c1;
}
