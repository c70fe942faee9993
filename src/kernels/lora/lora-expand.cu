// LoRA, second half: y[t, n] += scale * sum_r h[t, part of n, r] * B[n, r] with the B of row t's adapter
//
// y [T, N] in the dtype, read and written, rounded once here; h [T, parts, max_rank] float32 from lora_shrink. Rows without
// an adapter, and columns that it leaves alone, keep their bits.
// Grid: x: 128 columns, a thread each; y: `tile` rows. Order of sums: see lora_columns.
// Traffic: y twice, B once per tile and adapter. Bound by memory for many rows, by latency for few.
#include "lora.cuh"

extern "C" __global__ void __launch_bounds__(LORA_THREADS)
    KERNEL_NAME(scalar_t* y, const float* h, const LoraEntry* table, const i32* slots, i32 rows, i32 cols, i32 parts,
                i32 max_rank, i32 tile) {
  wait_for_previous();
  allow_next();
  const int column = blockIdx.x * LORA_THREADS + threadIdx.x;
  const int first = blockIdx.y * tile;
  const int end = first + tile < rows ? first + tile : rows;
  if (column >= cols) return;
  for (int row = first; row < end;) {
    const int n = rows_alike(slots, row, end);
    const i32 slot = slots[row];
    if (slot >= 0) {
      const i64 per_row = i64(parts) * max_rank;
      float sums[LORA_ROWS];
      lora_columns(sums, table + slot * parts, parts, column, h + row * per_row, n, max_rank);
#pragma unroll
      for (int i = 0; i < LORA_ROWS; i++) {
        if (i >= n || sums[i] == 0.0f) continue;
        scalar_t* at = y + i64(row + i) * cols + column;
        *at = from_float<scalar_t>(to_float(*at) + sums[i]);
      }
    }
    row += n;
  }
}
