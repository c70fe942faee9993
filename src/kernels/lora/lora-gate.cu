// LoRA, second half of a gated pair: out[t, f] = act(z[t, f] + d[t, f]) * (z[t, F + f] + d[t, F + f]), d as lora_expand adds it
//
// z [T, 2F] float32: gate and up before the activation, as the product of the base gives them, unrounded; out [T, F] in the
// dtype, rounded once. A row without an adapter has d = 0 and so gets the bits of the product's own gated epilogue.
// Grid: x: 128 columns of out, a thread each; y: `tile` rows. Traffic: z once, B once per tile and adapter.
#include "lora.cuh"
#include "../activation/gated.cuh"

extern "C" __global__ void __launch_bounds__(LORA_THREADS)
    KERNEL_NAME(scalar_t* out, const float* z, const float* h, const LoraEntry* table, const i32* slots, i32 rows, i32 cols,
                i32 parts, i32 max_rank, i32 tile, i32 kind) {
  wait_for_previous();
  allow_next();
  const int column = blockIdx.x * LORA_THREADS + threadIdx.x;
  const int first = blockIdx.y * tile;
  const int end = first + tile < rows ? first + tile : rows;
  if (column >= cols) return;
  for (int row = first; row < end;) {
    const int n = rows_alike(slots, row, end);
    const i32 slot = slots[row];
    float halves[2][LORA_ROWS] = {};
    if (slot >= 0) {
      const float* left = h + row * i64(parts) * max_rank;
#pragma unroll 1
      for (int half = 0; half < 2; half++) { // a loop: half the code
        float sums[LORA_ROWS];
        lora_columns(sums, table + slot * parts, parts, half * cols + column, left, n, max_rank);
#pragma unroll
        for (int i = 0; i < LORA_ROWS; i++) (half ? halves[1][i] : halves[0][i]) = sums[i];
      }
    }
#pragma unroll
    for (int i = 0; i < LORA_ROWS; i++) {
      if (i >= n) continue;
      const float* from = z + i64(row + i) * 2 * cols + column;
      out[i64(row + i) * cols + column] = from_float<scalar_t>(gated(from[0] + halves[0][i], from[cols] + halves[1][i], kind));
    }
    row += n;
  }
}
