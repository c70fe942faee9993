// Sampling, 3 of 4: lists the tokens of the few bins on which the row's result can depend.
//
// From the histogram alone each of three questions has its answer up to a bin: which bin holds the k-th token, in which
// the mass reaches p, and in which the random number falls. Later questions depend on earlier answers, so an inexact
// answer gives the next one a range of bins, between those for its least and its greatest value. Usually that is three or
// four bins of some dozens of tokens.
// Grid: (rows, parts of 4096). Every block answers for itself (2048 sums from L2, about 1 us), then lists the token ids of
// its part in those bins, in no particular order. Registers: 60 to 64 (ptxas), 24.1 KB of shared memory.
#include "sampling.cuh"

struct BinRange {
  int first = COARSE, last = -1;
  __device__ __forceinline__ bool has(int bin) const { return bin >= first && bin <= last; }
};
struct Wanted {
  BinRange k, p, drawn;
  __device__ __forceinline__ bool has(int bin) const { return k.has(bin) || p.has(bin) || drawn.has(bin); }
};

// sampling_draw computes the same with exact values, each of which lies within the bounds here.
__device__ __forceinline__ Wanted wanted_bins(const Cumulative& sums, i32 k, float p, u64 min_p_mass, u64 random) {
  Wanted wanted;
  u64 low = sums.mass[COARSE - 1], high = low; // bounds of the mass that is left
  if (k > 0 && u32(k) < sums.count[COARSE - 1]) {
    const int bin = sums.find_count(k);
    high = sums.mass[bin];
    low = high;
    if (sums.count[bin] != u32(k)) {
      wanted.k = {bin, bin};
      low = sums.mass_before(bin) + 1;
    }
  }
  if (p < 1.0f) {
    low = top_p_target(p, low);
    high = top_p_target(p, high);
    wanted.p = {sums.find_mass(low), sums.find_mass(high)};
    high = sums.mass[wanted.p.last];
  }
  low = least(low, min_p_mass);
  high = least(high, min_p_mass);
  wanted.drawn = {sums.find_mass(draw_target(random, low)), sums.find_mass(draw_target(random, high))};
  return wanted;
}

extern "C" __global__ void __launch_bounds__(PART_THREADS) KERNEL_NAME(SAMPLING_PARAMETERS) {
  __shared__ Cumulative sums;
  wait_for_previous();
  allow_next();
  const i64 row = blockIdx.x;
  const float t = temperature[row];
  if (row_greedy(t, greedy_only)) return;
  const int begin = blockIdx.y * SAMPLE_PART;
  const RowPart part(logits + row * logits_stride, begin, min(vocab, begin + SAMPLE_PART));
  const u64 best = row_best(partials, row, parts);
  if (row_failed(best)) return;
  const Weights weights(best, t);
  RowState* state = states + row;
  sums.load<PART_THREADS>(state);
  const Wanted wanted =
      wanted_bins(sums, top_k[row], top_p[row], state->min_p_mass, philox(seeds[row], steps[row]));

  u32* list = listed + row * vocab;
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < PART_VALUES; i++) {
    bool take = false;
    if (part.index(i) < part.end) {
      const float exponent = weights.exponent(to_float(part.values[i]));
      take = mass_of(weight(exponent)) > 0 && wanted.has(bin_of(exponent));
    }
    // One addition per warp makes room for all of its tokens.
    const u32 takers = __ballot_sync(0xffffffffu, take);
    if (takers == 0) continue;
    u32 place = 0;
    if (lane == 0) place = atomicAdd(&state->listed, u32(__popc(takers)));
    place = __shfl_sync(0xffffffffu, place, 0) + __popc(takers & ((1u << lane) - 1));
    if (take) list[place] = part.index(i);
  }
}
