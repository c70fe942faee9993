// Double quantization: absmax - offset in 8-bit codes, blocks of 256 with an absmax of their own; bit-equal to bitsandbytes.
//
// absmax [count] f32, offset [1] f32; bytes [count], nestedAbsmax [ceil(count / 256)] f32. code [256], ascending.
// One block of 256 threads a block of absmax, whose reciprocal is rounded before it is multiplied. Launches are few and small.
#include "../common/reduce.cuh"

// The nearest entry of the code, by bisection and one comparison with a midpoint. A tie keeps what bisection ended at.
__device__ __forceinline__ u32 nearest(const float* code, float x) {
  int at = 127, lower = 0, upper = 255;
#pragma unroll
  for (int step = 64; step > 0; step /= 2) {
    if (x > code[at]) {
      lower = at;
      at += step;
    } else {
      upper = at;
      at -= step;
    }
  }
  if (x > code[at]) return x > __fmul_rn(__fadd_rn(code[upper], code[at]), 0.5f) ? upper : at;
  return x < __fmul_rn(__fadd_rn(code[lower], code[at]), 0.5f) ? lower : at;
}

extern "C" __global__ void __launch_bounds__(256)
    KERNEL_NAME(u8* bytes, float* nestedAbsmax, const float* absmax, const float* offset, const float* code, i64 count) {
  __shared__ float table[256];
  table[threadIdx.x] = code[threadIdx.x];
  const i64 i = i64(blockIdx.x) * 256 + threadIdx.x;
  const float x = i < count ? __fsub_rn(absmax[i], *offset) : 0.0f;
  const float largest = block_max(fabsf(x));
  if (threadIdx.x == 0) nestedAbsmax[blockIdx.x] = largest;
  __syncthreads();
  if (i < count) bytes[i] = u8(nearest(table, __fmul_rn(x, __fdiv_rn(1.0f, largest))));
}
