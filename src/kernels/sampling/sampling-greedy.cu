// Sampling, where every row of a batch is greedy: after sampling_max, this instead of the other three.
//
// Grid: one warp per row, which reads the row's partial maxima. The same answer as sampling_draw gives for a greedy row; a
// kernel of its own because it is a hundredth of the code, and a program that only ever decodes greedily loads no more.
// Bound by latency: one dependent read. Registers: 16 to 18 (ptxas), no shared memory.
#include "sampling.cuh"

extern "C" __global__ void __launch_bounds__(32) KERNEL_NAME(SAMPLING_PARAMETERS) {
  wait_for_previous();
  allow_next();
  const i64 row = blockIdx.x;
  const u64 best = row_best(partials, row, parts);
  if (threadIdx.x == 0) tokens[row] = greedy_token(best);
}
