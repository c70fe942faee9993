// What the experts made of a token, weighted: out[t, c] = residual[t, c] + sum over j of weights[t, j] * y[t * k + j, c]
//
// out, residual [T, C], the same memory or residual null; y [T * k, C] and weights [T, k] float32. The k terms are added in
// the order of j, then the residual, and rounded once. Nothing depends on the other tokens.
// Grid: x over C, 16 bytes of out a thread; y over tokens. Bound by memory: 4kTC bytes of y read, out read and written.
#include "../common/launch.cuh"
#include "../common/types.cuh"

constexpr int THREADS = 128; // combineThreads in combine.ts

extern "C" __global__ void __launch_bounds__(THREADS)
    KERNEL_NAME(scalar_t* out, const scalar_t* residual, const f32* y, const f32* weights, int tokens, int cols, int k) {
  wait_for_previous();
  allow_next();
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
      for (int j = 0; j < k; j++) {
        const float weight = w[j];
#pragma unroll
        for (int q = 0; q < VEC; q += 4) {
          const Vec<float, 4> part = load_vec(rows + i64(j) * cols + q);
#pragma unroll
          for (int i = 0; i < 4; i++) sum[q + i] = fmaf(weight, part[i], sum[q + i]);
        }
      }
      if (from) {
        const Vec<float, VEC> old = to_floats(load_vec(from));
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
