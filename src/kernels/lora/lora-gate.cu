// LoRA, second half of a gated pair: out[t, f] = act(z[t, f] + d[t, f]) * (z[t, F + f] + d[t, F + f]), d as lora_expand adds it
//
// z [T, 2F] float32: gate and up before the activation, as the product of the base gives them, unrounded; out [T, F] in the
// dtype, rounded once. A row without an adapter has d = 0 and so gets the bits of the product's own gated epilogue.
// Grid: x: 128 columns of out, a thread each; y: `tile` rows. Traffic: z once, B as in lora_expand.
#include "lora.cuh"
#include "../activation/gated.cuh"

constexpr int THREADS = 128;

template <int ROWS>
__device__ __forceinline__ void gate_rows(scalar_t* out, const float* z, const float* h, const LoraEntry* table,
                                          const i32* slots, int first, int end, int column, int cols, int parts,
                                          int max_rank, int kind) {
  for (int row = first; row < end;) {
    const int n = rows_alike<ROWS>(slots, row, end);
    const i32 slot = slots[row];
    float gates[ROWS] = {}, ups[ROWS] = {}, base[2][ROWS];
    const auto load_base = [&] {
#pragma unroll
      for (int i = 0; i < ROWS; i++) {
        const float* from = z + i64(row + min(i, n - 1)) * 2 * cols + column;
        base[0][i] = from[0];
        base[1][i] = from[cols];
      }
    };
    if (slot >= 0) {
      const LoraColumn gate(table + slot * parts, parts, column, max_rank);
      const LoraColumn up(table + slot * parts, parts, cols + column, max_rank);
      wait_for_previous();
      load_base(); // at the same time as h
      const float* left = h + row * i64(parts) * max_rank;
      gate.multiply(gates, left, n, parts, max_rank);
      up.multiply(ups, left, n, parts, max_rank);
    } else {
      wait_for_previous();
      load_base();
    }
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
      if (i < n) out[i64(row + i) * cols + column] = from_float<scalar_t>(gated(base[0][i] + gates[i], base[1][i] + ups[i], kind));
    }
    row += n;
  }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    KERNEL_NAME(scalar_t* out, const float* z, const float* h, const LoraEntry* table, const i32* slots, i32 rows, i32 cols,
                i32 parts, i32 max_rank, i32 tile, i32 kind) {
  allow_next();
  const int column = blockIdx.x * THREADS + threadIdx.x;
  const int first = blockIdx.y * tile;
  const int end = first + tile < rows ? first + tile : rows;
  if (column >= cols) return;
  if (tile == 1) gate_rows<1>(out, z, h, table, slots, first, end, column, cols, parts, max_rank, kind);
  else gate_rows<LORA_ROWS>(out, z, h, table, slots, first, end, column, cols, parts, max_rank, kind);
}
