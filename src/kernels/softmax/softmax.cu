// Softmax: y[r, c] = exp(s x[r, c] - m) / sum_c exp(s x[r, c] - m), m = max_c s x[r, c]
//
// Rows of C elements with a stride; y may be x. Float32 inside, rounded once. As in PyTorch, a row that is -inf
// throughout, or holds +inf or NaN, becomes NaN (-inf - -inf and inf - inf are NaN, and one NaN makes the sum NaN).
//
// Block: (threads, rows), from C alone (chooseRowBlock), so a row's bits do not depend on the batch.
//   C <= 512: one warp per row. C <= 16384: one block per row. A thread keeps 16 elements, and x is read once: maximum,
//   then sum of exponentials, two reductions.
//   longer: each thread keeps a running maximum and a sum relative to it, which it rescales when the maximum grows
//   (online softmax, arXiv 1805.02867); the row is read twice, the second time from L2.
// Traffic: C elements read (twice when long) and written. Bound by DRAM with many rows; one long row is bound by what a
// single multiprocessor does: 40 us for 128k bf16 on an H200, bench/kernels.ts (sampling does not use this kernel).
// Registers: 50 to 64 (the limit of 1024 threads), no spills; 256 bytes of shared memory.
#include "../common/launch.cuh"
#include "../common/reduce.cuh"

inline constexpr int VALUES = 16; // per thread in registers: valuesPerThread in row-block.ts

__device__ __forceinline__ float row_sum(float x) { return blockDim.x == 32 ? warp_sum(x) : block_sum(x); }
__device__ __forceinline__ float row_max(float x) { return blockDim.x == 32 ? warp_max(x) : block_max(x); }

// sum of exp(x - max), as a thread goes along.
struct Online {
  float max, sum;
  __device__ __forceinline__ void add(float x) {
    if (x > max) {
      sum *= expf(max - x); // 0 at the first element: max is -inf
      max = x;
    }
    // NaN compares false above and stays in the sum; -inf - -inf must not put it there when a finite maximum follows.
    sum += x == max ? 1.0f : expf(x - max);
  }
};

extern "C" __global__ void __launch_bounds__(1024)
    KERNEL_NAME(scalar_t* out, const scalar_t* x, i64 out_stride, i64 x_stride, i32 rows, i32 cols, float scale) {
  wait_for_previous();
  allow_next();
  const i64 row = i64(blockIdx.x) * blockDim.y + threadIdx.y;
  if (row >= rows) return; // whole warps leave: with several rows a block, each is one warp
  const scalar_t* in = x + row * x_stride;
  scalar_t* y = out + row * out_stride;
  const float infinity = __int_as_float(0x7f800000);

  if (cols <= int(blockDim.x) * VALUES) {
    const bool wide = cols % VEC == 0 && ((reinterpret_cast<u64>(in) | reinterpret_cast<u64>(y)) & 15) == 0;
    // Element i of a thread: consecutive threads hold consecutive vectors (wide) or elements.
    auto column = [&](int i) {
      return wide ? ((i / VEC) * int(blockDim.x) + int(threadIdx.x)) * VEC + i % VEC
                  : i * int(blockDim.x) + int(threadIdx.x);
    };
    float v[VALUES];
#pragma unroll
    for (int j = 0; j < VALUES; j += VEC) {
      const int c = column(j);
      if (wide && c < cols) {
        const Vec<float, VEC> chunk = to_floats(load_vec(in + c));
#pragma unroll
        for (int i = 0; i < VEC; i++) v[j + i] = chunk[i] * scale;
      } else {
#pragma unroll
        for (int i = 0; i < VEC; i++) v[j + i] = column(j + i) < cols ? to_float(in[column(j + i)]) * scale : -infinity;
      }
    }
    float max = -infinity;
#pragma unroll
    for (int i = 0; i < VALUES; i++) max = fmaxf(max, v[i]);
    max = row_max(max);
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < VALUES; i++) {
      v[i] = expf(v[i] - max);
      // Past the row's end -inf - -inf would be NaN when the row itself is -inf throughout; that row is NaN anyway.
      sum += v[i];
    }
    const float total = row_sum(sum);
#pragma unroll
    for (int j = 0; j < VALUES; j += VEC) {
      if (wide && column(j) < cols) {
        Vec<float, VEC> chunk;
#pragma unroll
        for (int i = 0; i < VEC; i++) chunk[i] = v[j + i] / total;
        store_vec(y + column(j), from_floats<scalar_t>(chunk));
      } else if (!wide) {
#pragma unroll
        for (int i = 0; i < VEC; i++)
          if (column(j + i) < cols) y[column(j + i)] = from_float<scalar_t>(v[j + i] / total);
      }
    }
    return;
  }

  const bool wide = ((reinterpret_cast<u64>(in) | reinterpret_cast<u64>(y)) & 15) == 0;
  const int vectors_end = wide ? cols / VEC * VEC : 0;
  Online part = {-infinity, 0.0f};
#pragma unroll 2
  for (int c = threadIdx.x * VEC; c < vectors_end; c += blockDim.x * VEC) {
    const Vec<float, VEC> chunk = to_floats(load_vec(in + c));
#pragma unroll
    for (int i = 0; i < VEC; i++) part.add(chunk[i] * scale);
  }
  for (int c = vectors_end + threadIdx.x; c < cols; c += blockDim.x) part.add(to_float(in[c]) * scale);

  const float max = row_max(part.max);
  // A thread that saw nothing above -inf must not make 0 * NaN out of it.
  const float total = row_sum(part.max == max ? part.sum : part.sum * expf(part.max - max));
  // +inf: its own difference is NaN, and PyTorch's sum makes the whole row so.
  const float divisor = max == infinity ? __int_as_float(0x7fffffff) : total;

  for (int c = threadIdx.x * VEC; c < vectors_end; c += blockDim.x * VEC) {
    Vec<float, VEC> chunk = to_floats(load_vec(in + c));
#pragma unroll
    for (int i = 0; i < VEC; i++) chunk[i] = expf(chunk[i] * scale - max) / divisor;
    store_vec(y + c, from_floats<scalar_t>(chunk));
  }
  for (int c = vectors_end + threadIdx.x; c < cols; c += blockDim.x)
    y[c] = from_float<scalar_t>(expf(to_float(in[c]) * scale - max) / divisor);
}
