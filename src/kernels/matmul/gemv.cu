// Few rows times a weight, gemv.cuh. Grid: blocks of R columns of D; z: batch.
#include "gemv.cuh"

extern "C" __global__ void __launch_bounds__(32 * MAX_WARPS) KERNEL_NAME(MATMUL_PARAMETERS) {
  MATMUL_PROBLEM
  multiply_few(p, blockIdx.x * R);
}
