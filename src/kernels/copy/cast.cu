// cast: out[view] = x[view] with a conversion between any two of f32, f16, bf16, i32, i64, u8, bool.
//
// Both types are run-time arguments: 49 pairs in one file. The two branches are the same for every thread and cost about
// ten instructions beside two memory accesses, which the kernel waits for anyway.
// Grid: any. Contiguous operands (`flat`): a thread converts four neighbours per step, so that each of its accesses is
// part of a fully used line; otherwise one element per step through its index. Bound by DRAM when flat: the size of x
// read, that of out written. 47 registers, no shared memory.
#include "../common/dims.cuh"
#include "../common/dtype.cuh"
#include "../common/launch.cuh"

extern "C" __global__ void __launch_bounds__(256)
    KERNEL_NAME(void* out, const void* x, int out_dtype, int x_dtype, i64 count, int flat, int rank, Dims shape,
                Dims out_strides, Dims x_strides) {
  if (flat) {
    // Four loads before the four stores, a block apart: all in flight at once.
    const i64 step = 4LL * blockDim.x;
#pragma unroll 1
    for (i64 block = blockIdx.x * step; block < count; block += gridDim.x * step) {
      Number values[4];
#pragma unroll
      for (int k = 0; k < 4; k++) {
        const i64 i = block + k * blockDim.x + threadIdx.x;
        if (i < count) values[k] = load_number(x, i, x_dtype);
      }
#pragma unroll
      for (int k = 0; k < 4; k++) {
        const i64 i = block + k * blockDim.x + threadIdx.x;
        if (i < count) store_number(out, i, out_dtype, values[k]);
      }
    }
    return;
  }
#pragma unroll 1
  for (i64 i = grid_start(); i < count; i += grid_step()) {
    const Offsets at = offsets_of(i, count, rank, shape, out_strides, x_strides);
    store_number(out, at.a, out_dtype, load_number(x, at.b, x_dtype));
  }
}
