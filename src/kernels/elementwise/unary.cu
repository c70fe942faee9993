// unary: out[i] = f(x[i]); f is a run-time argument, the same branch for the whole grid.
//
// x, out: contiguous, may be the same memory. Arithmetic in float32 with CUDA's accurate functions (expf, logf, tanhf,
// erff: at most 2 ulp; no fast approximations), rounded once. neg, abs and relu keep integers exact.
// Grid: any; a thread handles one 16-byte vector per step, and the last count % VEC elements go one by one. Addresses
// must be 16-byte aligned for vectors (`vector`), else every element goes alone. Bound by DRAM: x read once, out written
// once; gelu_erf on 16-bit types comes close to being bound by arithmetic (some 40 instructions an element).
// 26 to 36 registers, no shared memory.
#include "../common/arithmetic.cuh"
#include "../common/launch.cuh"

// The codes of src/kernels/elementwise/elementwise.ts.
enum UnaryOp { NEG, ABS, RELU, EXP, LOG, SQRT, RSQRT, SIGMOID, TANH, SILU, GELU, GELU_ERF };

using Compute = Arithmetic<scalar_t>;

__device__ __forceinline__ float apply(int op, float x) {
  switch (op) {
    case NEG: return -x;
    case ABS: return fabsf(x);
    case RELU: return x < 0.0f ? 0.0f : x; // NaN stays NaN
    case EXP: return expf(x);
    case LOG: return logf(x);
    case SQRT: return sqrtf(x);
    case RSQRT: return rsqrtf(x);
    case SIGMOID: return 1.0f / (1.0f + expf(-x));
    case TANH: return tanhf(x);
    case SILU: return x / (1.0f + expf(-x));
    // Hendrycks and Gimpel, arXiv 1606.08415: the tanh form, sqrt(2 / pi) = 0.79788…
    case GELU: return 0.5f * x * (1.0f + tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x)));
    // … and the exact form; erfc keeps the tail of negative x, where 1 + erf would cancel. sqrt(1 / 2) = 0.70710…
    default: return 0.5f * x * erfcf(-0.7071067811865476f * x);
  }
}

// Integers have the first three only.
template <typename T>
__device__ __forceinline__ T apply(int op, T x) {
  return op == NEG || (op == ABS && x < 0) ? -x : op == RELU && x < 0 ? T(0) : x;
}

__device__ __forceinline__ scalar_t apply_element(int op, scalar_t x) {
  return Compute::narrow(apply(op, Compute::widen(x)));
}

extern "C" __global__ void __launch_bounds__(256)
    KERNEL_NAME(scalar_t* out, const scalar_t* x, i64 count, int op, int vector) {
  const i64 vectors = vector ? count / VEC : 0;
#pragma unroll 1
  for (i64 i = grid_start(); i < vectors; i += grid_step()) {
    vec_t v = load_vec(x + i * VEC);
#pragma unroll
    for (int k = 0; k < VEC; k++) v[k] = apply_element(op, v[k]);
    store_vec(out + i * VEC, v);
  }
#pragma unroll 1
  for (i64 i = vectors * VEC + grid_start(); i < count; i += grid_step()) out[i] = apply_element(op, x[i]);
}
