// reduce: out[o] = sum, max or min over r of x[o, r], for any kept dimensions o and any reduced dimensions r.
//
// Floats accumulate in float32 and integers in i64. The reduced range is cut into chunks of a fixed size; an item is one
// chunk of one output, and `lanes` threads share it: lane l adds its elements l, l + lanes, … in order, then the lanes
// meet in a tree. So the order of additions depends on the reduced size alone, never on the grid, the GPU or the number
// of outputs, and the same input always gives the same bits. With more than one chunk, a second launch of this kernel
// reduces the partial results (`in_partial`).
// Block: 256 threads. Rows (`columns` = 0): a block holds 256 / lanes items, and neighbouring threads read neighbouring
// r, 16 bytes at a time where possible. Columns: neighbouring threads read neighbouring outputs, for reductions over an
// outer dimension; both are coalesced. Grid: any; blocks stride over the items.
// Traffic: x read once; bound by DRAM. 1 or 2 KB of shared memory, 31 to 52 registers.
// The operation is a run-time argument: one compare or add per element beside its load.
#include "../common/arithmetic.cuh"
#include "../common/dims.cuh"
#include "../common/launch.cuh"

enum ReduceOp { SUM, MAX, MIN };

constexpr bool integer = Arithmetic<scalar_t>::integer;
template <bool> struct Accumulator { using type = float; };
template <> struct Accumulator<true> { using type = i64; };
using acc_t = Accumulator<integer>::type;

__device__ __forceinline__ acc_t identity(int op) {
  if (op == SUM) return acc_t(0);
  if (integer) return op == MAX ? acc_t(i64(0x8000000000000000ULL)) : acc_t(0x7fffffffffffffffLL);
  return acc_t(op == MAX ? __int_as_float(0xff800000) : __int_as_float(0x7f800000));
}

// Maximum and minimum keep NaN, as PyTorch's do: x != x only for NaN.
__device__ __forceinline__ acc_t combine(int op, acc_t x, acc_t y) {
  if (op == SUM) return x + y;
  if (op == MAX) return x > y || x != x ? x : y;
  return x < y || x != x ? x : y;
}

__device__ __forceinline__ acc_t accumulable(scalar_t x) { return acc_t(Arithmetic<scalar_t>::widen(x)); }

// outputs: kept elements. reduced: elements per output, in chunks of `chunk`. divisor: what floats are divided by at the
// end (the mean). Item w is chunk w / outputs of output w % outputs; partial results are stored at w.
extern "C" __global__ void __launch_bounds__(256)
    KERNEL_NAME(void* out, const void* x, i64 outputs, i64 reduced, i64 chunk, i64 chunks, int op, int lanes, int columns,
                int vector, int in_partial, int out_partial, float divisor, int kept_rank, Dims kept_shape,
                Dims kept_strides, int reduced_rank, Dims reduced_shape, Dims reduced_strides) {
  __shared__ acc_t scratch[256];
  const scalar_t* elements = static_cast<const scalar_t*>(x);
  const acc_t* partials = static_cast<const acc_t*>(x);
  const int per_block = 256 / lanes;
  const int thread = threadIdx.x;
  const int lane = columns ? thread / per_block : thread % lanes;
  const int slot = columns ? thread % per_block : thread / lanes;
  const int lane_step = columns ? per_block : 1; // how far apart the lanes of one item lie in the block

  const i64 items = outputs * chunks;
  for (i64 first = i64(blockIdx.x) * per_block; first < items; first += i64(gridDim.x) * per_block) {
    const i64 item = first + slot;
    acc_t acc = identity(op);

    // Each lane's own elements.
    if (item < items) {
      const i64 c = item / outputs;
      const i64 begin = c * chunk;
      const i64 end = begin + chunk < reduced ? begin + chunk : reduced;
      const i64 base = offsets_of(item - c * outputs, outputs, kept_rank, kept_shape, kept_strides, kept_strides).a;
      if (vector) {
#pragma unroll 4
        for (i64 r = begin + lane * VEC; r < end; r += lanes * VEC) {
          const vec_t v = load_vec(elements + base + r);
#pragma unroll
          for (int k = 0; k < VEC; k++) acc = combine(op, acc, accumulable(v[k]));
        }
      } else if (reduced_rank == 1) {
        const i64 stride = reduced_strides.v[0];
#pragma unroll 4
        for (i64 r = begin + lane; r < end; r += lanes) {
          const i64 at = base + r * stride;
          acc = combine(op, acc, in_partial ? partials[at] : accumulable(elements[at]));
        }
      } else {
#pragma unroll 1
        for (i64 r = begin + lane; r < end; r += lanes) {
          const i64 at = base + offsets_of(r, reduced, reduced_rank, reduced_shape, reduced_strides, reduced_strides).a;
          acc = combine(op, acc, accumulable(elements[at]));
        }
      }
    }

    // The lanes meet.
    scratch[thread] = acc;
    __syncthreads();
    for (int half = lanes / 2; half > 0; half /= 2) {
      if (lane < half) scratch[thread] = combine(op, scratch[thread], scratch[thread + half * lane_step]);
      __syncthreads();
    }

    if (lane == 0 && item < items) {
      acc_t result = scratch[thread];
      if (!integer) result /= divisor;
      if (out_partial) static_cast<acc_t*>(out)[item] = result;
      else static_cast<scalar_t*>(out)[item] = Arithmetic<scalar_t>::narrow(Arithmetic<scalar_t>::type(result));
    }
    __syncthreads(); // scratch is free again
  }
}
