// LoRA, first half: h[t, part, r] = sum_k x[t, k] * A[r, k] with the A of row t's adapter
//
// x [T, K], A [rank, K] in the dtype; h [T, parts, max_rank] float32. Rows without an adapter and ranks past an
// adapter's own are not written: the second half does not read them.
// Grid: x: four ranks, a warp each; y: part; z: `tile` rows, 1 to LORA_ROWS. Of each run of rows with one adapter a warp
// keeps its piece of A in registers while it goes through the rows.
// A sum is a warp's: lane l takes 16 bytes at l, l + 32, ... and the lanes are added by a butterfly. That order depends on
// K and on alignment only, so that a row's bits are the same in every batch and for every `tile`.
// Traffic: A once per tile and adapter, from L2 but for the first time, and x once per four ranks. A decode step is bound
// by the latency of K / (32 * VEC) dependent rounds, a prompt by loads of x from L1 and L2.
#include "lora.cuh"

extern "C" __global__ void __launch_bounds__(LORA_THREADS)
    KERNEL_NAME(float* h, const scalar_t* x, const LoraEntry* table, const i32* slots, i32 rows, i32 cols, i32 parts,
                i32 max_rank, i32 tile, i32 wide) {
  wait_for_previous();
  allow_next();
  const int lane = threadIdx.x % 32;
  const int r = blockIdx.x * (LORA_THREADS / 32) + threadIdx.x / 32;
  const int part = blockIdx.y;
  const int first = blockIdx.z * tile;
  const int end = first + tile < rows ? first + tile : rows;
  for (int row = first; row < end;) {
    const int n = rows_alike(slots, row, end);
    const i32 slot = slots[row];
    const LoraEntry* e = table + slot * parts + part;
    if (slot >= 0 && r < e->rank) {
      const scalar_t* a = e->a + i64(r) * cols;
      const scalar_t* in = x + i64(row) * cols;
      float sums[LORA_ROWS] = {};
      if (wide) {
        for (int k = lane * VEC; k < cols; k += 32 * VEC) {
          const Vec<float, VEC> w = to_floats(load_vec(a + k));
#pragma unroll
          for (int i = 0; i < LORA_ROWS; i++) {
            if (i >= n) continue;
            const Vec<float, VEC> v = to_floats(load_vec(in + i64(i) * cols + k));
#pragma unroll
            for (int j = 0; j < VEC; j++) sums[i] = fmaf(v[j], w[j], sums[i]);
          }
        }
      } else {
        for (int k = lane; k < cols; k += 32) {
          const float w = to_float(a[k]);
#pragma unroll
          for (int i = 0; i < LORA_ROWS; i++)
            if (i < n) sums[i] = fmaf(to_float(in[i64(i) * cols + k]), w, sums[i]);
        }
      }
#pragma unroll
      for (int i = 0; i < LORA_ROWS; i++) {
        if (i >= n) continue;
        const float sum = warp_sum(sums[i]);
        if (lane == 0) h[(i64(row + i) * parts + part) * max_rank + r] = sum;
      }
    }
    row += n;
  }
}
