// LoRA, second half: y[t, n] += scale * sum_r h[t, part of n, r] * B[n, r] with the B of row t's adapter
//
// y [T, N] in the dtype, read and written, rounded once here; h [T, parts, max_rank] float32 from lora_shrink. Rows without
// an adapter, and columns that it leaves alone, keep their bits.
// Grid: x: 128 columns, a thread each; y: `tile` rows, 1 or more. Order of sums: see LoraColumn.
// Traffic: y twice, B once per run of up to LORA_ROWS rows of a tile that share an adapter. Bound by memory for many rows; for
// few by the latency of L2, where B is before h is.
#include "lora.cuh"

constexpr int THREADS = 128;

template <int ROWS>
__device__ __forceinline__ void expand(scalar_t* y, const float* h, const LoraEntry* table, const i32* slots, int first,
                                       int end, int column, int cols, int parts, int max_rank) {
  for (int row = first; row < end;) {
    const int n = rows_alike<ROWS>(slots, row, end);
    const i32 slot = slots[row];
    if (slot >= 0) {
      const LoraColumn b(table + slot * parts, parts, column, max_rank);
      wait_for_previous();
      scalar_t* at[ROWS];
      float before[ROWS], sums[ROWS];
#pragma unroll
      for (int i = 0; i < ROWS; i++) { // at the same time as h
        at[i] = y + i64(row + min(i, n - 1)) * cols + column;
        before[i] = to_float(*at[i]);
      }
      b.multiply(sums, h + row * i64(parts) * max_rank, n, parts, max_rank);
#pragma unroll
      for (int i = 0; i < ROWS; i++) {
        if (i < n && sums[i] != 0.0f) *at[i] = from_float<scalar_t>(before[i] + sums[i]);
      }
    }
    row += n;
  }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    KERNEL_NAME(scalar_t* y, const float* h, const LoraEntry* table, const i32* slots, i32 rows, i32 cols, i32 parts,
                i32 max_rank, i32 tile) {
  allow_next();
  const int column = blockIdx.x * THREADS + threadIdx.x;
  const int first = blockIdx.y * tile;
  const int end = first + tile < rows ? first + tile : rows;
  if (column < cols) {
    if (tile == 1) expand<1>(y, h, table, slots, first, end, column, cols, parts, max_rank);
    else expand<LORA_ROWS>(y, h, table, slots, first, end, column, cols, parts, max_rank);
  }
  wait_for_previous();
}
