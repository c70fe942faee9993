// Sampling, 4 of 4: applies the filters exactly and picks the token.
//
// Tokens are ordered by logit, largest first, and by id among equals. Every filter keeps a prefix of that order (with all
// equals of its last token), so a filter is a mass: top-k leaves the mass Zk of its prefix, top-p the mass Zp of the
// shortest prefix that has p * Zk, min-p the mass of the tokens above its bound, and the smallest of the masses is what
// the random number falls into. The token is the one at which the running mass reaches that place.
// "Where does the running sum reach x" is answered by bin from the histogram and within the bin by `Candidates::search`
// from the list of sampling_gather, which narrows an interval of logits, 512 sub-bins at a time, until it is one value.
// Grid: one block of 512 threads per row. Traffic: the 24 KB histogram and the list. Bound by latency: with top-p some 20
// barriers and dependent loads, hardly any data. Greedy rows read only the partial maxima.
// Registers: 44 to 48 (ptxas), 38.4 KB of shared memory.
#include "sampling.cuh"

inline constexpr int THREADS = 512;
inline constexpr int FINE = THREADS; // sub-bins of a search: one per thread
inline constexpr int FINE_BITS = 9;
inline constexpr int CACHED = 1024; // list entries kept in shared memory; longer lists are read again from the logits

enum Phase { TOP_K, TOP_P, DRAW };

// All tokens of one value, and the mass of those with larger ones.
struct Level {
  u32 key, count;
  u64 mass_before, mass;
};

struct Candidates {
  const scalar_t* logits;
  const u32* list;
  u64* cache;
  SharedHistogram<FINE>& histogram;
  Weights weights;
  int size;

  __device__ __forceinline__ u64 compute(int i) const {
    const u32 token = list[i];
    return ordered_pair(to_float(logits[token]), token);
  }
  __device__ __forceinline__ void load() {
#pragma unroll 1
    for (int i = threadIdx.x; i < min(size, CACHED); i += THREADS) cache[i] = compute(i);
    __syncthreads();
  }
  __device__ __forceinline__ u64 pair(int i) const { return i < CACHED ? cache[i] : compute(i); }
  __device__ __forceinline__ float exponent(u64 pair) const { return weights.exponent(key_to_float(pair_key(pair))); }

  // The value in `bin` at which the running mass (or, by_count, the running count) from the bin's start reaches `target`.
  // bin_mass and bin_count are the bin's totals. Every thread gets the result.
  __device__ __forceinline__ Level search(int bin, u64 target, bool by_count, u64 bin_mass, u32 bin_count) {
    __shared__ Level found;
    __shared__ u64 found_before;
    __shared__ int found_digit;

    u64 largest = 0, inverted_least = 0;
#pragma unroll 1
    for (int i = threadIdx.x; i < size; i += THREADS) {
      const u64 p = pair(i);
      if (bin_of(exponent(p)) != bin) continue;
      largest = p > largest ? p : largest;
      inverted_least = ~p > inverted_least ? ~p : inverted_least;
    }
    u32 high = pair_key(block_max_u64(largest));
    u32 low = pair_key(~block_max_u64(inverted_least));
    if (high == low) return {high, bin_count, 0, bin_mass};

    u64 passed = 0; // mass in the bin above `high`
    while (true) {
      const int shift = max(0, 32 - __clz(high - low) - FINE_BITS);
      histogram.clear();
      __syncthreads();
      // Keys between low and high all lie in this bin: binning is monotone.
      u64 mass = 0; // of sub-bin threadIdx.x; sub-bin 0 is at `high`
#pragma unroll 1
      for (int start = 0; start < size; start += FOLD) {
#pragma unroll 1
        for (int i = start + threadIdx.x; i < min(size, start + FOLD); i += THREADS) {
          const u64 p = pair(i);
          const u32 key = pair_key(p);
          if (key >= low && key <= high) histogram.add((high - key) >> shift, mass_of(weight(exponent(p))));
        }
        __syncthreads();
        mass += histogram.fold(threadIdx.x);
        __syncthreads();
      }
      const u32 count = histogram.count[threadIdx.x];
      const u64 mass_sum = block_scan<THREADS>(mass);
      const u64 sum = by_count ? block_scan<THREADS>(count) : mass_sum;
      const u64 own = by_count ? count : mass;
      if (sum >= target && sum - own < target) {
        found_digit = threadIdx.x;
        found_before = sum - own;
        found = {0, count, mass_sum - mass, mass};
      }
      __syncthreads();
      const u32 top = high - (u32(found_digit) << shift);
      passed += found.mass_before;
      if (shift == 0) return {top, found.count, passed, found.mass};
      target -= found_before;
      const u32 width = (1u << shift) - 1;
      high = top;
      low = high - low > width ? high - width : low;
    }
  }

  // The token id at place `ordinal` (from 0, by id) among the `count` tokens of one value.
  __device__ __forceinline__ i32 token_of(u32 key, u32 count, u64 ordinal, i32 vocab) {
    __shared__ u32 found_token;
    __shared__ int found_digit;
    __shared__ u64 found_before;
    if (count == 1) {
#pragma unroll 1
      for (int i = threadIdx.x; i < size; i += THREADS)
        if (pair_key(pair(i)) == key) found_token = pair_index(pair(i));
      __syncthreads();
      return i32(found_token);
    }
    u32 first = 0;                              // the ids still possible are first ... first + 2^bits - 1
    int bits = 32 - __clz(vocab - 1);
    while (true) {
      const int shift = max(0, bits - FINE_BITS);
      histogram.clear();
      __syncthreads();
#pragma unroll 1
      for (int i = threadIdx.x; i < size; i += THREADS) {
        const u64 p = pair(i);
        const u32 token = pair_index(p);
        if (pair_key(p) == key && token >= first && (token - first) >> bits == 0)
          atomicAdd(&histogram.count[(token - first) >> shift], 1u);
      }
      __syncthreads();
      const u32 own = histogram.count[threadIdx.x];
      const u64 sum = block_scan<THREADS>(own);
      if (sum > ordinal && sum - own <= ordinal) {
        found_digit = threadIdx.x;
        found_before = sum - own;
      }
      __syncthreads();
      first += u32(found_digit) << shift;
      ordinal -= found_before;
      if (shift == 0) return i32(first);
      bits = shift;
    }
  }
};

extern "C" __global__ void __launch_bounds__(THREADS, 1) KERNEL_NAME(SAMPLING_PARAMETERS) {
  __shared__ Cumulative sums;
  __shared__ SharedHistogram<FINE> histogram;
  __shared__ u64 cache[CACHED];
  wait_for_previous();
  allow_next();
  const i64 row = blockIdx.x;
  const u64 best = row_best(partials, row, parts);
  const float t = temperature[row];
  if (row_failed(best) || row_greedy(t, greedy_only)) {
    if (threadIdx.x == 0) tokens[row] = greedy_token(best);
    return;
  }

  const RowState* state = states + row;
  sums.load<THREADS>(state);
  Candidates candidates = {logits + row * logits_stride, listed + row * vocab, cache, histogram, Weights(best, t),
                           int(state->listed)};
  candidates.load();

  // ---- two filters, each of which lowers the mass that is left, and the draw: one search each. A loop, so that the
  // driver compiles the search once and not three times ----
  u64 left = sums.mass[COARSE - 1], place = 0;
  Level level = {};
#pragma unroll 1
  for (int phase = TOP_K; phase <= DRAW; phase++) {
    u64 target;
    if (phase == TOP_K) {
      const i32 k = top_k[row];
      if (k <= 0 || u32(k) >= sums.count[COARSE - 1]) continue;
      target = k;
    } else if (phase == TOP_P) {
      const float p = top_p[row];
      if (!(p < 1.0f)) continue;
      target = top_p_target(p, left);
    } else {
      place = target = draw_target(philox(seeds[row], steps[row]), least(left, state->min_p_mass));
    }
    const bool by_count = phase == TOP_K;
    const int bin = by_count ? sums.find_count(target) : sums.find_mass(target);
    if (by_count && sums.count[bin] == target) {
      left = sums.mass[bin];
      continue;
    }
    const u64 mass_before = sums.mass_before(bin), before = by_count ? sums.count_before(bin) : mass_before;
    level = candidates.search(bin, target - before, by_count, sums.mass[bin] - mass_before, sums.count_in(bin));
    level.mass_before += mass_before;
    // What a filter keeps: the shortest prefix, equals included, whose running sum reaches the target.
    left = level.mass_before + level.mass;
  }

  const u64 ordinal = (place - 1 - level.mass_before) / (level.mass / level.count);
  const i32 token = candidates.token_of(level.key, level.count, ordinal, vocab);
  if (threadIdx.x == 0) tokens[row] = token;
}
