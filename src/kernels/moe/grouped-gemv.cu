// The grouped product for few rows an expert, on the ordinary arithmetic units: gemv.cuh for every group. float32 everywhere,
// 16 bits before sm_80, and rows that do not start on 16 bytes.
//
// Bound by the weights of the chosen experts, each read once for up to 8 of its rows. A row's bits do not depend on its group.
// Grid: x blocks of R columns of D, y groups (those past the last end at once).
#include "grouped.cuh"
#include "../matmul/gemv.cuh"

extern "C" __global__ void __launch_bounds__(32 * MAX_WARPS) KERNEL_NAME(GROUPED_PARAMETERS) {
  GROUPED_PRODUCT
  if (!product.p.has(EARLY_TABLE)) wait_for_previous();
  if (!product.has_group(blockIdx.y)) return;
  multiply_few(product.group(blockIdx.y), blockIdx.x * R);
}
