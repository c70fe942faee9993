// What the experts made of a token, weighted: out[t, c] = residual[t, c] + sum over j of weights[t, j] * y[t * k + j, c]
//
// out, residual [T, C], the same memory or residual null; y [T * k, C] and weights [T, k] float32. The k terms are added in
// the order of j, then the residual, and rounded once. Nothing depends on the other tokens.
// Grid: x over C, 16 bytes of out a thread; y over tokens. Bound by memory: 4kTC bytes of y read, out read and written.
#include "../common/launch.cuh"
#include "../common/types.cuh"

constexpr int THREADS = 128; // combineThreads in combine.ts
constexpr int AHEAD = 8;     // results of a token that a thread has on their way at once: one latency, not k

extern "C" __global__ void __launch_bounds__(THREADS)
    KERNEL_NAME(scalar_t* out, const scalar_t* residual, const f32* y, const f32* weights, int tokens, int cols, int k) {
  allow_next();
#if LLCUDA_TARGET >= 90
  // What was there before the products began may have left L2 since.
  if (threadIdx.x == 0) asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(weights + i64(blockIdx.y) * k)));
  const i64 ahead = i64(blockIdx.y) * cols + (blockIdx.x * THREADS + threadIdx.x) * VEC;
  if (residual && threadIdx.x % (128 / 16) == 0 && ahead < i64(tokens) * cols) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(residual + ahead)));
  }
#endif
  wait_for_previous();
  const int start = (blockIdx.x * THREADS + threadIdx.x) * VEC;
  if (start >= cols) return;
  const int count = min(VEC, cols - start);
  for (i64 token = blockIdx.y; token < tokens; token += gridDim.y) {
    scalar_t* to = out + token * cols + start;
    const scalar_t* from = residual ? residual + token * cols + start : nullptr;
    const f32* rows = y + token * k * cols + start;
    const f32* w = weights + token * k;
    const u64 addresses = reinterpret_cast<u64>(to) | reinterpret_cast<u64>(from) | reinterpret_cast<u64>(rows);
    if (count == VEC && cols % 4 == 0 && (addresses & 15) == 0) {
      Vec<float, VEC> sum = {};
      Vec<scalar_t> before = {};
      if (from) before = load_vec(from);
#pragma unroll 1
      for (int first = 0; first < k; first += AHEAD) {
        float weight[AHEAD];
        Vec<float, 4> part[AHEAD][VEC / 4];
#pragma unroll
        for (int j = 0; j < AHEAD; j++) {
          if (first + j >= k) continue;
          weight[j] = w[first + j];
#pragma unroll
          for (int q = 0; q < VEC / 4; q++) part[j][q] = load_vec(rows + i64(first + j) * cols + 4 * q);
        }
#pragma unroll
        for (int j = 0; j < AHEAD; j++) {
          if (first + j >= k) continue;
#pragma unroll
          for (int i = 0; i < VEC; i++) sum[i] = fmaf(weight[j], part[j][i / 4][i % 4], sum[i]);
        }
      }
      if (from) {
        const Vec<float, VEC> old = to_floats(before);
#pragma unroll
        for (int i = 0; i < VEC; i++) sum[i] += old[i];
      }
      store_vec(to, from_floats<scalar_t>(sum));
    } else {
      for (int i = 0; i < count; i++) {
        float sum = 0.0f;
        for (int j = 0; j < k; j++) sum = fmaf(w[j], rows[i64(j) * cols + i], sum);
        to[i] = from_float<scalar_t>(from ? to_float(from[i]) + sum : sum);
      }
    }
  }
}
