// Dequantization of 4-bit codes: out[i] = level[code[i]] * absmax[i / B], rounded from float32 to the dtype as bitsandbytes does.
//
// packed, absmax: see code4.cuh; out [count] in the dtype. A thread turns 4 bytes into 8 values, four times, a block's width
// apart: 16-byte stores that a warp lays side by side, four loads under way at once.
// Traffic for 16-bit out: 0.5 + 4 / B read, 2 bytes written a value (150 MB for 14336 x 4096, B = 64). Bound by DRAM.
// `through`: in types that are finer, values are rounded to this one first (`rounded` below), the weight's own.
// The levels lie in shared memory, one bank each: lanes that ask for the same level are served together, others by
// different banks.
#include "../common/launch.cuh"
#include "code4.cuh"

constexpr int EACH = 8, ROUNDS = 4, THREADS = 256;

// `throughTypes` in nf4.ts.
enum Through : i32 { NONE, F16, BF16 };

// Values of N codes.
template <int N>
__device__ __forceinline__ void rounded(Vec<float, N>& values, i32 through) {
  if constexpr (!is_same<scalar_t, bf16>) {
    if (through == NONE) return;
#pragma unroll
    for (int i = 0; i < N; i++)
      values[i] = through == BF16 ? to_float(from_float<bf16>(values[i])) : to_float(from_float<f16>(values[i]));
  }
}

__device__ __forceinline__ void expand(scalar_t* out, u32 four, const float* levels, float scale, i32 through) {
  Vec<float, EACH> v;
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    const u32 nibble = four >> (i / 2 * 8 + (i % 2 ? 0 : 4)) & 15u; // the first of two in the upper bits
    v[i] = __fmul_rn(levels[nibble], scale);
  }
  rounded(v, through);
  *reinterpret_cast<Vec<scalar_t, EACH>*>(out) = from_floats<scalar_t>(v);
}

extern "C" __global__ void __launch_bounds__(THREADS) KERNEL_NAME(scalar_t* out, const u8* packed, CODE4_PARAMETERS, i64 count,
                                                                   i32 through) {
  __shared__ float levels[16];
  if (threadIdx.x < 16) levels[threadIdx.x] = code[threadIdx.x];
  __syncthreads();
  const Absmax scales = CODE4_ABSMAX;
  const i64 eights = count / EACH;
  for (i64 first = i64(blockIdx.x) * THREADS * ROUNDS + threadIdx.x; first < eights; first += i64(gridDim.x) * THREADS * ROUNDS) {
    u32 four[ROUNDS];
    float scale[ROUNDS];
#pragma unroll
    for (int r = 0; r < ROUNDS; r++) {
      const i64 at = first + r * THREADS;
      if (at >= eights) break;
      four[r] = reinterpret_cast<const u32*>(packed)[at];
      scale[r] = scales.at(at * EACH >> scales.shift);
    }
#pragma unroll
    for (int r = 0; r < ROUNDS; r++) {
      const i64 at = first + r * THREADS;
      if (at < eights) expand(out + at * EACH, four[r], levels, scale[r], through);
    }
  }
  // The last values, fewer than eight.
  const i64 at = eights * EACH + threadIdx.x;
  if (blockIdx.x == 0 && at < count) {
    const u32 nibble = packed[at / 2] >> (at % 2 ? 0 : 4) & 15u;
    Vec<float, 1> v = {{__fmul_rn(levels[nibble], scales.at(at >> scales.shift))}};
    rounded(v, through);
    out[at] = from_float<scalar_t>(v[0]);
  }
}
