// LoRA, second half, for many rows: y[t, n] += scale * sum_r h[t, part of n, r] * B[n, r] on the tensor cores; see lora-tile.cuh
//
// What it computes is lora_expand's; h comes in `split` parts of K, which are added in order. A block has 128 columns, a warp 32 of
// them, and takes every gridDim.z-th tile of its window of rows.
// Grid: x: 128 columns; y: 64 rows; z: tiles, any number, of which the last find none.
// Traffic: y twice, B once per tile, from L2. Shared memory: 4 KB.
#include "lora-tile.cuh"

extern "C" __global__ void __launch_bounds__(COLUMN_THREADS, 4)
    KERNEL_NAME(scalar_t* y, const float* h, const LoraEntry* table, const i32* slots, i32 rows, i32 cols, i32 parts,
                i32 max_rank, i32 split) {
  __shared__ float shared[TILE_ROWS][H_ROW];
  __shared__ RowTile tile;
  allow_next();
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int block_column = blockIdx.x * BLOCK_COLUMNS, column = block_column + threadIdx.x / 32 * COLUMNS + 4 * g;
  const int columns = cols - column;
  const int first = blockIdx.y * WINDOW, end = min(first + WINDOW, rows);
  const i64 row_floats = i64(parts) * max_rank;
  const Left left = {h + first * row_floats, rows * row_floats, split, parts, max_rank};
  bool waited = false;
  for (int index = blockIdx.z;; index += gridDim.z) {
    find_tile(tile, slots, first, end, index, TILE_ROWS, false);
    if (tile.count == 0) break;
    const LoraEntry* entries = table + tile.slot * parts;
    if (!waited) {
      if (block_column + threadIdx.x < cols) prefetch_columns(entries, parts, block_column + threadIdx.x);
      wait_for_previous();
      waited = true;
    }
    const auto place = [&](int row) { return y + i64(first + tile.at[min(row, tile.count - 1)]) * cols + column; };
    Vec<scalar_t, 4> before[EIGHTS][2]; // on their way while the sums are made
#pragma unroll
    for (int j = 0; j < EIGHTS; j++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int row = 8 * j + 2 * t + i;
        if (row < tile.count) before[j][i] = load_four(place(row), columns);
      }
    }
    float sums[EIGHTS][2][4];
    adapter_sums<4>(sums, shared, entries, left, tile, block_column, column - 4 * g, cols, 1);
#pragma unroll
    for (int j = 0; j < EIGHTS; j++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int row = 8 * j + 2 * t + i;
        if (row >= tile.count) continue;
        Vec<scalar_t, 4> v = before[j][i];
#pragma unroll
        for (int c = 0; c < 4; c++)
          if (sums[j][i][c] != 0.0f) v[c] = from_float<scalar_t>(to_float(v[c]) + sums[j][i][c]);
        store_four(place(row), v, columns);
      }
    }
  }
  if (!waited) wait_for_previous();
}
