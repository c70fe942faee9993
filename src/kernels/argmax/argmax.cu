// Argmax: out[r] = index of the largest x[r, :], the lowest among equals, the first NaN if there is one
//
// Grid: (rows, parts). A block takes part_size elements of a row, 4096 a round, and reduces pairs (ordered value,
// inverted index) packed in 64 bits: their maximum is the answer whatever the order, so any split gives the same result.
// With one part the index is written; otherwise the pair goes to partials [rows, parts] and argmax_merge ends it. A
// second launch is a barrier that needs no counter to be reset, and costs about 1 us inside a graph.
// Traffic: C elements read once. One row of 128k: 32 blocks, bound by launch and latency: 3.3 us for both (H200, bench/kernels.ts).
// Registers: 57 to 64 (ptxas), 256 bytes of shared memory.
#include "../common/launch.cuh"
#include "../common/ordered-key.cuh"
#include "../common/row-part.cuh"

extern "C" __global__ void __launch_bounds__(PART_THREADS)
    KERNEL_NAME(i32* out, u64* partials, const scalar_t* x, i64 x_stride, i32 cols, i32 part_size) {
  wait_for_previous();
  allow_next();
  const i64 row = blockIdx.x;
  const scalar_t* in = x + row * x_stride;
  const int begin = blockIdx.y * part_size;
  const int end = min(cols, begin + part_size);

  u64 best = 0;
  for (int from = begin; from < end; from += PART_SIZE) {
    const RowPart part(in, from, min(end, from + PART_SIZE));
#pragma unroll
    for (int i = 0; i < PART_VALUES; i++) {
      if (part.index(i) >= part.end) continue;
      const u64 pair = ordered_pair(to_float(part.values[i]), part.index(i));
      best = pair > best ? pair : best;
    }
  }

  best = block_max_u64(best);
  if (threadIdx.x != 0) return;
  if (partials) {
    partials[row * gridDim.y + blockIdx.y] = best;
  } else {
    out[row] = i32(pair_index(best));
  }
}
