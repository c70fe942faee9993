// The offset of double quantization: the mean of all absmax [count] f32, summed in float64 and rounded once.
// One block: absmax is a 64th of a weight, and this runs once a weight. Thread-wise in order, then a tree.
#include "../common/types.cuh"

constexpr int THREADS = 1024;

extern "C" __global__ void __launch_bounds__(THREADS) KERNEL_NAME(float* mean, const float* absmax, i64 count) {
  __shared__ double sums[THREADS];
  double sum = 0.0;
  for (i64 i = threadIdx.x; i < count; i += THREADS) sum += absmax[i];
  sums[threadIdx.x] = sum;
  __syncthreads();
  for (int half = THREADS / 2; half > 0; half /= 2) {
    if (int(threadIdx.x) < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    __syncthreads();
  }
  if (threadIdx.x == 0) *mean = float(sums[0] / double(count));
}
