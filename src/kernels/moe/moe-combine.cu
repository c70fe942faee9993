// What the experts made of a token, weighted: out[t, c] = residual[t, c] + sum over j of weights[t, j] * y[t * k + j, c]
//
// out, residual [T, C], the same memory or residual null; y [T * k, C] and weights [T, k] float32. The k terms are added in
// the order of j, then the residual, and rounded once. Nothing depends on the other tokens.
// Grid: x over C, 16 bytes of y a thread, eight results on their way at once; y over tokens. Bound by memory: 4kTC bytes of y read,
// out read and written; at one token by its latency.
#include "../common/launch.cuh"
#include "../common/types.cuh"

constexpr int THREADS = 128; // these two: combine.ts
constexpr int COLUMNS = 4;   // of a thread
constexpr int AHEAD = 8;

extern "C" __global__ void __launch_bounds__(THREADS)
    KERNEL_NAME(scalar_t* out, const scalar_t* residual, const f32* y, const f32* weights, int tokens, int cols, int k) {
  allow_next();
  const int start = (blockIdx.x * THREADS + threadIdx.x) * COLUMNS;
#if LLCUDA_TARGET >= 90
  // What was there before the products began may have left L2 since.
  if (start < cols && threadIdx.x % 16 == 0) {
    if (threadIdx.x == 0) asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(weights + i64(blockIdx.y) * k)));
    if (residual) asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(residual + i64(blockIdx.y) * cols + start)));
  }
#endif
  wait_for_previous();
  if (start >= cols) return;
  const int count = min(COLUMNS, cols - start);
  for (i64 token = blockIdx.y; token < tokens; token += gridDim.y) {
    scalar_t* to = out + token * cols + start;
    const scalar_t* from = residual ? residual + token * cols + start : nullptr;
    const f32* rows = y + token * k * cols + start;
    const f32* w = weights + token * k;
    const u64 ends = reinterpret_cast<u64>(to) | reinterpret_cast<u64>(from);
    if (count == COLUMNS && cols % COLUMNS == 0 && ends % (COLUMNS * sizeof(scalar_t)) == 0 && reinterpret_cast<u64>(rows) % 16 == 0) {
      using Columns = Vec<scalar_t, COLUMNS>;
      const Columns before = from ? *reinterpret_cast<const Columns*>(from) : Columns{};
      Vec<float, COLUMNS> sum = {};
      int first = 0;
#pragma unroll 1
      for (; first + AHEAD <= k; first += AHEAD) {
        float weight[AHEAD];
        Vec<float, COLUMNS> part[AHEAD];
#pragma unroll
        for (int j = 0; j < AHEAD; j++) {
          weight[j] = w[first + j];
          part[j] = load_vec(rows + i64(first + j) * cols);
        }
#pragma unroll
        for (int j = 0; j < AHEAD; j++) {
#pragma unroll
          for (int i = 0; i < COLUMNS; i++) sum[i] = fmaf(weight[j], part[j][i], sum[i]);
        }
      }
#pragma unroll 1
      for (; first < k; first++) {
        const Vec<float, COLUMNS> part = load_vec(rows + i64(first) * cols);
#pragma unroll
        for (int i = 0; i < COLUMNS; i++) sum[i] = fmaf(w[first], part[i], sum[i]);
      }
      if (from) {
        const Vec<float, COLUMNS> old = to_floats(before);
#pragma unroll
        for (int i = 0; i < COLUMNS; i++) sum[i] += old[i];
      }
      *reinterpret_cast<Columns*>(to) = from_floats<scalar_t>(sum);
    } else {
      for (int i = 0; i < count; i++) {
        float sum = 0.0f;
        for (int j = 0; j < k; j++) sum = fmaf(w[j], rows[i64(j) * cols + i], sum);
        to[i] = from_float<scalar_t>(from ? to_float(from[i]) + sum : sum);
      }
    }
  }
}
