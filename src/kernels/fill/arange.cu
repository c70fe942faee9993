// arange: out[i] = start + i * step, for every type.
//
// Floats compute in double and round once; integers compute in i64 and keep the low bits. `start` and `step` are
// given as the bits of a double or as an i64. Grid: any; one element per thread and step. Bound by DRAM on data-center
// GPUs; where doubles run at a sixty-fourth of the rate, by the two double operations, which is still a few
// microseconds for a million elements. 22 registers, no shared memory.
#include "../common/dtype.cuh"
#include "../common/launch.cuh"

extern "C" __global__ void __launch_bounds__(256) KERNEL_NAME(void* out, i64 start, i64 step, i64 count, int dtype) {
  const bool is_float = dtype == F32 || dtype == F16 || dtype == BF16;
#pragma unroll 1
  for (i64 i = grid_start(); i < count; i += grid_step()) {
    if (is_float) {
      // Two roundings, as on the host; a fused operation would round once and differ near zero.
      const double offset = __dmul_rn(double(i), __longlong_as_double(step));
      const float value = float(__dadd_rn(__longlong_as_double(start), offset));
      store_number(out, i, dtype, {value, 0, true});
    } else {
      store_number(out, i, dtype, {0.0f, start + i * step, false});
    }
  }
}
