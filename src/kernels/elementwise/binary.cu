// binary: out[i] = op(a[i], b[i]) with broadcasting; op is add, sub, mul, div, min, max or softcap, and b may be one number.
//
// out is contiguous; a and b are views of its shape, stride 0 where they repeat. Floats compute in float32 and round
// once. The operation is a run-time argument: the same branch for the whole grid, some five instructions for a vector
// of 16 bytes, while the kernel waits for memory either way; six files fewer per type.
// Grid: any; a thread handles one item per step: a 16-byte vector where the host found the views to allow it (`vector`),
// else one element. With merged dimensions a contiguous operation has rank 1 and a row broadcast rank 2, so the index
// costs no division, or one per vector. Bound by DRAM: a and b read once (a broadcast one from cache), out written once.
// 29 to 34 registers, no shared memory. Minimum and maximum give NaN when either operand is NaN, as PyTorch's do.
#include "../common/arithmetic.cuh"
#include "../common/dims.cuh"
#include "../common/launch.cuh"

// The codes of src/kernels/elementwise/elementwise.ts; RSUB and RDIV have their operands swapped, for `number - tensor`.
enum BinaryOp { ADD, SUB, MUL, DIV, MIN, MAX, RSUB, RDIV, SOFTCAP };
// How an operand varies along one item.
enum OperandKind { EACH, REPEATED, CONSTANT };

using Compute = Arithmetic<scalar_t>;
using compute_t = Compute::type;

// x != x only for NaN.
__device__ __forceinline__ compute_t smaller(compute_t x, compute_t y) { return x < y || x != x ? x : y; }
__device__ __forceinline__ compute_t larger(compute_t x, compute_t y) { return x > y || x != x ? x : y; }

// Integer division and softcap exist so that the switch is complete; launchers do not offer them.
__device__ __forceinline__ compute_t apply(int op, compute_t x, compute_t y) {
  switch (op) {
    case ADD: return x + y;
    case SUB: return x - y;
    case MUL: return x * y;
    case DIV: return x / y;
    case MIN: return smaller(x, y);
    case MAX: return larger(x, y);
    case RSUB: return y - x;
    case SOFTCAP: return compute_t(float(y) * tanhf(float(x) / float(y)));
    default: return y / x;
  }
}

// items: elements, or vectors of VEC elements along the innermost dimension, whose size `shape` then counts in vectors.
// Strides are in elements.
extern "C" __global__ void __launch_bounds__(256)
    KERNEL_NAME(scalar_t* out, const scalar_t* a, const scalar_t* b, i64 items, int op, int vector, int a_kind, int b_kind,
                float float_constant, i64 integer_constant, int rank, Dims shape, Dims a_strides, Dims b_strides) {
  const compute_t constant = Compute::integer ? compute_t(integer_constant) : compute_t(float_constant);
  if (vector) {
#pragma unroll 1
    for (i64 i = grid_start(); i < items; i += grid_step()) {
      const Offsets at = offsets_of(i, items, rank, shape, a_strides, b_strides);
      vec_t x, y, r;
      if (a_kind == EACH) x = load_vec(a + at.a);
      else {
        const scalar_t one = a[at.a];
#pragma unroll
        for (int k = 0; k < VEC; k++) x[k] = one;
      }
      if (b_kind == EACH) y = load_vec(b + at.b);
      const compute_t repeated = b_kind == REPEATED ? Compute::widen(b[at.b]) : constant;
#pragma unroll
      for (int k = 0; k < VEC; k++) r[k] = Compute::narrow(apply(op, Compute::widen(x[k]), b_kind == EACH ? Compute::widen(y[k]) : repeated));
      store_vec(out + i * VEC, r);
    }
    return;
  }
#pragma unroll 1
  for (i64 i = grid_start(); i < items; i += grid_step()) {
    const Offsets at = offsets_of(i, items, rank, shape, a_strides, b_strides);
    const compute_t y = b_kind == CONSTANT ? constant : Compute::widen(b[at.b]);
    out[i] = Compute::narrow(apply(op, Compute::widen(a[at.a]), y));
  }
}
