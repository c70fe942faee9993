// RMSNorm: y[c] = x[c] * rsqrt(mean_c(x²) + eps) * (w[c] + offset), or with an addend y[c] = addend[c] + that
//
// Vectors are numbered row * heads + head; x and y have a stride for each of the two (elements), so that the heads inside
// a fused QKV row are normalised where they lie. w [C]. All in float32, y rounded once. y may be x or the addend.
//
// Block: (threads, vectors), from C alone (chooseRowBlock), so a row's bits do not depend on the batch.
//   C <= 512: one warp per vector, 8 vectors a block, no barrier.
//   C <= 16384: one block per vector; a thread keeps its 16 elements in registers, so that x is read once.
//   longer, or not 16-byte aligned: element by element, reading x twice, the second time from L1 or L2.
// The weights and the addend are loaded before the reduction: their latency hides behind that of x. A decode step (1 to 8 rows) is then
// one memory latency, 10 shuffles, one barrier pair, and the store: 1.3 us in a graph at C = 4096 (H200, bench/kernels.ts).
// Traffic: x read, y written, weights once per block (from L2); the addend read. Bound by DRAM in prefill.
// Registers: 51 to 64 (ptxas; 64 is the limit of 1024 threads), no spills; 128 bytes of shared memory. Source: arXiv 1910.07467.
#include "../common/launch.cuh"
#include "../common/reduce.cuh"

inline constexpr int VALUES = 16; // per thread in registers: valuesPerThread in row-block.ts
inline constexpr int CHUNKS = VALUES / VEC;

// Over the threads of one vector: a warp, or the whole block.
__device__ __forceinline__ float vector_sum(float x) { return blockDim.x == 32 ? warp_sum(x) : block_sum(x); }

extern "C" __global__ void __launch_bounds__(1024)
    KERNEL_NAME(scalar_t* out, const scalar_t* x, const scalar_t* addend, const scalar_t* weight, i64 out_stride,
                i64 out_head_stride, i64 x_stride, i64 x_head_stride, i64 addend_stride, i32 rows, i32 heads, i32 cols,
                float eps, float weight_offset) {
  const i64 vector = i64(blockIdx.x) * blockDim.y + threadIdx.y;
  if (vector >= i64(rows) * heads) return; // whole warps leave: with several vectors a block, each is one warp
  const i64 row = heads == 1 ? vector : vector / heads;
  const i64 head = heads == 1 ? 0 : vector % heads;
  const scalar_t* in = x + row * x_stride + head * x_head_stride;
  scalar_t* y = out + row * out_stride + head * out_head_stride;
  const scalar_t* plus = addend ? addend + row * addend_stride : nullptr;

  const u64 addresses = reinterpret_cast<u64>(in) | reinterpret_cast<u64>(y) | reinterpret_cast<u64>(plus) |
                        reinterpret_cast<u64>(weight);
  const bool in_registers = cols <= int(blockDim.x) * VALUES && cols % VEC == 0 && (addresses & 15) == 0;

  if (in_registers) {
    // Chunk j of a thread is the vector of elements at (j * threads + thread) * VEC.
    float h[VALUES];
    Vec<scalar_t> w[CHUNKS];
    // Weights do not come from the kernel before this one, so they may be loaded while it still runs.
#pragma unroll
    for (int j = 0; j < CHUNKS; j++) {
      const int c = (j * blockDim.x + threadIdx.x) * VEC;
      if (c < cols) w[j] = load_vec(weight + c);
    }
    allow_next();
    wait_for_previous();
    float squares = 0.0f;
    Vec<scalar_t> a[CHUNKS];
#pragma unroll
    for (int j = 0; j < CHUNKS; j++) {
      const int c = (j * blockDim.x + threadIdx.x) * VEC;
      if (c < cols) {
        const Vec<float, VEC> v = to_floats(load_vec(in + c));
        if (plus) a[j] = load_vec(plus + c);
#pragma unroll
        for (int i = 0; i < VEC; i++) {
          h[j * VEC + i] = v[i];
          squares += v[i] * v[i];
        }
      }
    }
    const float scale = 1.0f / sqrtf(vector_sum(squares) / float(cols) + eps);
#pragma unroll
    for (int j = 0; j < CHUNKS; j++) {
      const int c = (j * blockDim.x + threadIdx.x) * VEC;
      if (c < cols) {
        Vec<float, VEC> v;
#pragma unroll
        for (int i = 0; i < VEC; i++) {
          v[i] = h[j * VEC + i] * scale * (to_float(w[j][i]) + weight_offset);
          if (plus) v[i] += to_float(a[j][i]);
        }
        store_vec(y + c, from_floats<scalar_t>(v));
      }
    }
    return;
  }

  allow_next();
  wait_for_previous();
  float squares = 0.0f;
#pragma unroll 1
  for (int c = threadIdx.x; c < cols; c += blockDim.x) {
    const float h = to_float(in[c]);
    squares += h * h;
  }
  const float scale = 1.0f / sqrtf(vector_sum(squares) / float(cols) + eps);
#pragma unroll 1
  for (int c = threadIdx.x; c < cols; c += blockDim.x) {
    const float v = to_float(in[c]) * scale * (to_float(weight[c]) + weight_offset);
    y[c] = from_float<scalar_t>(plus ? v + to_float(plus[c]) : v);
  }
}
