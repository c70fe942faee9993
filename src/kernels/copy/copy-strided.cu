// copy_strided: out[view] = x[view], the same bits, for any two views of one shape.
//
// out, x: units of 1, 2, 4, 8 or 16 bytes. The host merges dimensions and then takes the widest unit that both views
// allow (src/kernels/layout.ts): rows of a slice or of permuted heads move 16 bytes at a time, whatever their type.
// Grid: any; a thread moves one unit per step: 2 * unit bytes of traffic and one index split (a 32-bit division per
// inner dimension). Bound by DRAM with units of 8 bytes and more, by the index arithmetic below that. A transpose, where
// no unit is wide on both sides, is copy-tiled.cu. 24 registers, no shared memory.
#include "../common/dims.cuh"
#include "../common/launch.cuh"

template <int bytes> struct UnitOf;
template <> struct UnitOf<1> { using type = unsigned char; };
template <> struct UnitOf<2> { using type = unsigned short; };
template <> struct UnitOf<4> { using type = unsigned int; };
template <> struct UnitOf<8> { using type = uint2; };
template <> struct UnitOf<16> { using type = uint4; };
using Unit = UnitOf<VARIANT_BYTES>::type;

// count: units in the view. shape in units; strides in units.
extern "C" __global__ void __launch_bounds__(256)
    KERNEL_NAME(Unit* out, const Unit* x, i64 count, int rank, Dims shape, Dims out_strides, Dims x_strides) {
#pragma unroll 1
  for (i64 i = grid_start(); i < count; i += grid_step()) {
    const Offsets at = offsets_of(i, count, rank, shape, out_strides, x_strides);
    out[at.a] = x[at.b];
  }
}
