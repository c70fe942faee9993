// Nested absmax [count] as float32, where a product or a reader wants it plain (Absmax in code4.cuh).
#include "../common/launch.cuh"
#include "code4.cuh"

extern "C" __global__ void __launch_bounds__(256)
    KERNEL_NAME(float* out, const u8* bytes, const float* nestedAbsmax, const float* nestedCode, float nestedOffset, i64 count) {
  const Absmax absmax = {bytes, nestedAbsmax, nestedCode, nestedOffset, 0};
  for (i64 i = grid_start(); i < count; i += grid_step()) out[i] = absmax.at(i);
}
