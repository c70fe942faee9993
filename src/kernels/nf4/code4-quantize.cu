// Quantization to 4-bit codes: packed bytes and one absmax a block (code4.cuh), bit-equal to bitsandbytes.
//
// x [count] in the dtype, flattened; packed [ceil(count / 2)]; absmax [ceil(count / B)] f32; B = 2^shift, 32 to 4096.
// A warp takes 256 values, or one whole block when that is more: a lane has 8 neighbours, so that B / 8 lanes share a block.
// Traffic: x once (larger blocks than 256: twice, from L1 the second time), 4.5 bits a value written. Bound by DRAM.
// The value is multiplied by the rounded reciprocal of absmax, as bitsandbytes does, not divided by it.
#include "../common/launch.cuh"
#include "../common/reduce.cuh"
#include "code4.cuh"

constexpr int EACH = 8;

__device__ __forceinline__ Vec<float, EACH> load_values(const scalar_t* x, i64 at, i64 count) {
  Vec<float, EACH> v;
  if (at + EACH <= count && reinterpret_cast<u64>(x) % 16 == 0) {
#pragma unroll
    for (int i = 0; i < EACH; i += VEC) {
      const vec_t part = load_vec(x + at + i);
#pragma unroll
      for (int j = 0; j < VEC; j++) v[i + j] = to_float(part[j]);
    }
    return v;
  }
#pragma unroll
  for (int i = 0; i < EACH; i++) v[i] = at + i < count ? to_float(x[at + i]) : 0.0f;
  return v;
}

extern "C" __global__ void __launch_bounds__(256)
    KERNEL_NAME(u8* packed, float* absmax, const scalar_t* x, i64 count, i32 shift, i32 fp4) {
  const int lane = threadIdx.x % 32;
  const int perWarp = max(256, 1 << shift);
  const int width = min(32, (1 << shift) / EACH); // lanes that share a block
  for (i64 first = grid_start() / 32 * perWarp; first < count; first += grid_step() / 32 * perWarp) {
    float largest = 0.0f;
    for (int round = 0; round < perWarp; round += 256) {
      const Vec<float, EACH> v = load_values(x, first + round + lane * EACH, count);
#pragma unroll
      for (int i = 0; i < EACH; i++) largest = fmaxf(largest, fabsf(v[i]));
    }
    for (int offset = width / 2; offset > 0; offset /= 2) largest = fmaxf(largest, __shfl_xor_sync(FULL_WARP, largest, offset));
    const float scale = __fdiv_rn(1.0f, largest);
    for (int round = 0; round < perWarp; round += 256) {
      const i64 at = first + round + lane * EACH;
      const Vec<float, EACH> v = load_values(x, at, count);
      if (at < count && (at & ((1 << shift) - 1)) == 0) absmax[at >> shift] = largest;
      u32 bytes = 0;
#pragma unroll
      for (int i = 0; i < EACH; i++) {
        const float y = __fmul_rn(v[i], scale);
        bytes |= (fp4 ? quantize_fp4(y) : quantize_nf4(y)) << (i / 2 * 8 + (i % 2 ? 0 : 4));
      }
      if (at + EACH <= count) {
        reinterpret_cast<u32*>(packed)[at / EACH] = bytes;
      } else {
        for (int i = 0; at + i < count; i += 2) packed[(at + i) / 2] = u8(bytes >> 4 * i);
      }
    }
  }
}
