// The end of a product whose K was split among blocks: adds the parts in order, then what epilogues add.
//
// parts [splits, M, N] float32 (gated [splits, M, 2N], gates first). One thread a column of D and row: neighbours read
// neighbours. Bound by reading the parts, mostly from L2. Grid: columns in blocks of 256, rows.
#include "matmul.cuh"
#include "../common/launch.cuh"

extern "C" __global__ void __launch_bounds__(256)
    KERNEL_NAME(void* out, const float* parts, const scalar_t* bias, const void* residual, int m, int n, int splits,
                u32 flags, i64 ldd, i64 ldr, float alpha, float beta) {
  const Problem p = {out, nullptr, nullptr, bias, residual, m, n, 0, flags, 0, 0, ldd, ldr, alpha, beta, nullptr, 1};
  wait_for_previous();
  allow_next();
  const int column = blockIdx.x * 256 + threadIdx.x, row = blockIdx.y;
  if (column >= n) return;
  const bool gated = p.has(GATED);
  const i64 width = gated ? 2 * i64(n) : n;
  const float* from = parts + row * width + column;
  float sum = 0.0f, up = 0.0f;
#pragma unroll 4
  for (int s = 0; s < splits; s++) {
    sum += from[s * m * width];
    if (gated) up += from[s * m * width + n];
  }
  if (gated) p.finish_gated(row, column, sum, up);
  else p.finish(row, column, sum);
}
