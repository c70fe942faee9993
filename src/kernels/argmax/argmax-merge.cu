// Second phase of argmax: out[r] = index in the largest of partials[r, :], pairs from argmax.cu.
//
// Grid: one warp per row; parts is a few dozen. Latency only. 50 registers (ptxas), no shared memory.
#include "../common/launch.cuh"
#include "../common/ordered-key.cuh"

extern "C" __global__ void __launch_bounds__(32) KERNEL_NAME(i32* out, const u64* partials, i32 parts) {
  wait_for_previous();
  allow_next();
  const i64 row = blockIdx.x;
  u64 best = 0;
  for (int i = threadIdx.x; i < parts; i += 32) {
    const u64 pair = partials[row * parts + i];
    best = pair > best ? pair : best;
  }
  best = warp_max_u64(best);
  if (threadIdx.x == 0) out[row] = i32(pair_index(best));
}
