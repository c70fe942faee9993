// Sampling, 2 of 4: how many tokens, and how much probability, each of 2048 bins of a row's logits holds.
//
// Grid: (rows, parts of 4096). A block counts its part in shared memory (two or three native additions a token) and adds
// the bins that it touched to the row's histogram: integers, so the order in which blocks come does not matter.
// Traffic: the logits from L2; at most 2 * 2048 additions a block to L2. Registers: 40 to 44 (ptxas), 24 KB of shared memory.
#include "sampling.cuh"

extern "C" __global__ void __launch_bounds__(PART_THREADS) KERNEL_NAME(SAMPLING_PARAMETERS) {
  __shared__ SharedHistogram<COARSE> histogram;
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
  const float least_weight = fminf(min_p[row], 1.0f);
  histogram.clear();
  __syncthreads();

  // ---- count ----
  u64 min_p_mass = 0;
#pragma unroll
  for (int i = 0; i < PART_VALUES; i++) {
    if (part.index(i) >= part.end) continue;
    const float exponent = weights.exponent(to_float(part.values[i]));
    const float w = weight(exponent);
    const u64 mass = mass_of(w);
    if (mass == 0) continue;
    histogram.add(bin_of(exponent), mass);
    if (w >= least_weight) min_p_mass += mass;
  }
  __syncthreads();

  // ---- add to the row's ----
  RowState* state = states + row;
  for (int bin = threadIdx.x; bin < COARSE; bin += PART_THREADS) {
    if (histogram.count[bin] == 0) continue;
    atomicAdd(&state->count[bin], histogram.count[bin]);
    atomicAdd(&state->mass[bin], histogram.fold(bin));
  }
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) min_p_mass += __shfl_xor_sync(0xffffffffu, min_p_mass, offset);
  if (threadIdx.x % 32 == 0 && min_p_mass > 0) atomicAdd(&state->min_p_mass, min_p_mass);
}
