// Sampling, 1 of 4: the largest logit of each part of a row, and empty histograms for the next kernel.
//
// Grid: (rows, parts of 4096). partials[row, part] = largest pair (logit, lowest index), which is also the greedy token
// and tells whether the row has NaN or +inf, or nothing but -inf. Each block zeroes its share of the row's 24 KB state.
// Traffic: the logits once from device memory (they stay in L2 for the kernels after this one). Latency-bound at few
// rows. Registers: 39 to 56 (ptxas), 256 bytes of shared memory.
#include "sampling.cuh"

extern "C" __global__ void __launch_bounds__(PART_THREADS) KERNEL_NAME(SAMPLING_PARAMETERS) {
  wait_for_previous();
  allow_next();
  const i64 row = blockIdx.x;
  const int begin = blockIdx.y * SAMPLE_PART;
  const RowPart part(logits + row * logits_stride, begin, min(vocab, begin + SAMPLE_PART));

  if (!row_greedy(temperature[row], greedy_only)) {
    u32* state = reinterpret_cast<u32*>(states + row);
#pragma unroll 1
    for (int i = blockIdx.y * PART_THREADS + threadIdx.x; i < int(sizeof(RowState) / 4); i += parts * PART_THREADS)
      state[i] = 0;
  }

  u64 best = 0;
#pragma unroll
  for (int i = 0; i < PART_VALUES; i++) {
    if (part.index(i) >= part.end) continue;
    const u64 pair = ordered_pair(to_float(part.values[i]), part.index(i));
    best = pair > best ? pair : best;
  }
  best = block_max_u64(best);
  if (threadIdx.x == 0) partials[row * parts + blockIdx.y] = best;
}
