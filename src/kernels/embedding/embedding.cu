// Embedding: out[t, c] = table[ids[t], c] * scale
//
// out [T, C], table [V, C] row-major in the dtype, ids [T] i32. An id outside 0 <= id < V reads nothing and gives a row
// of NaN, which no later operation hides: a failed token stays visible down to the logits.
// Grid: one block per token. Block: up to 512 threads, 16 bytes a thread and round where C and the addresses allow it.
// Traffic: T*C elements read (each row once, scattered rows but contiguous inside) and written. Bound by DRAM in
// prefill; at one token it is the latency of two dependent loads, the id and then the row.
// Arithmetic: one float32 product; with scale = 1 conversion there and back is exact, so the bits are copied.
// Registers: 18 to 26 (ptxas), no shared memory.
#include "../common/launch.cuh"
#include "../common/types.cuh"

extern "C" __global__ void __launch_bounds__(512)
    KERNEL_NAME(scalar_t* out, const scalar_t* table, const i32* ids, i32 tokens, i32 cols, i32 vocab, float scale) {
  // In this order: what comes later in a forward pass counts on everything before the pass having ended (`settled` of
  // ForwardContext).
  wait_for_previous();
  allow_next();
  const int token = blockIdx.x;
  if (token >= tokens) return;
  const i32 id = ids[token];
  const bool valid = id >= 0 && id < vocab;
  const float nan = __int_as_float(0x7fffffff);
  const scalar_t* row = table + i64(valid ? id : 0) * cols;
  scalar_t* y = out + i64(token) * cols;

  const bool wide = cols % VEC == 0 && ((reinterpret_cast<u64>(table) | reinterpret_cast<u64>(out)) & 15) == 0;
  if (wide) {
    for (int c = threadIdx.x * VEC; c < cols; c += blockDim.x * VEC) {
      Vec<float, VEC> v;
#pragma unroll
      for (int i = 0; i < VEC; i++) v[i] = nan;
      if (valid) v = to_floats(load_vec_streaming(row + c));
#pragma unroll
      for (int i = 0; i < VEC; i++) v[i] *= scale;
      store_vec(y + c, from_floats<scalar_t>(v));
    }
  } else {
    for (int c = threadIdx.x; c < cols; c += blockDim.x)
      y[c] = from_float<scalar_t>(valid ? to_float(row[c]) * scale : nan);
  }
}
