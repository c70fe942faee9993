// LoRA, second half of a gated pair, for many rows: lora_gate on the tensor cores; see lora-tile.cuh
//
// A block has 128 columns of out, a warp 32 of them, of gate and then of up, and takes every gridDim.z-th tile of its window of rows;
// rows without an adapter make tiles, too. h comes in `split` parts of K, which are added in order.
// Grid: x: 128 columns; y: 64 rows; z: tiles, any number, of which the last find none.
// Traffic: z once, B once per tile, from L2. Shared memory: 4 KB.
#include "lora-tile.cuh"
#include "../activation/gated.cuh"

extern "C" __global__ void __launch_bounds__(COLUMN_THREADS, 4)
    KERNEL_NAME(scalar_t* out, const float* z, const float* h, const LoraEntry* table, const i32* slots, i32 rows, i32 cols,
                i32 parts, i32 max_rank, i32 split, i32 kind) {
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
    find_tile(tile, slots, first, end, index, TILE_ROWS, true);
    if (tile.count == 0) break;
    const LoraEntry* entries = table + tile.slot * parts;
    if (!waited) {
      if (tile.slot >= 0 && block_column + threadIdx.x < cols) {
        prefetch_columns(entries, parts, block_column + threadIdx.x);
        prefetch_columns(entries, parts, cols + block_column + threadIdx.x);
      }
      wait_for_previous();
      waited = true;
    }
    float gates[EIGHTS][2][4] = {}, ups[EIGHTS][2][4] = {};
    if (tile.slot >= 0) {
#pragma unroll 1 // the code once
      for (int shift = 0; shift <= cols; shift += cols) {
#pragma unroll
        for (int j = 0; j < EIGHTS; j++) {
#pragma unroll
          for (int i = 0; i < 2; i++) {
#pragma unroll
            for (int c = 0; c < 4; c++) gates[j][i][c] = ups[j][i][c]; // the second time: what the first left
          }
        }
        adapter_sums<2>(ups, shared, entries, left, tile, shift + block_column, shift + column - 4 * g, shift + cols, 1);
      }
    }
    const auto row_of = [&](int row) { return i64(first + tile.at[min(row, tile.count - 1)]); };
    Vec<float, 4> gate[EIGHTS][2], up[EIGHTS][2]; // all before the first store
#pragma unroll
    for (int j = 0; j < EIGHTS; j++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int row = 8 * j + 2 * t + i;
        if (row >= tile.count) continue;
        const float* from = z + row_of(row) * 2 * cols + column;
        gate[j][i] = load_four(from, columns);
        up[j][i] = load_four(from + cols, columns);
      }
    }
#pragma unroll
    for (int j = 0; j < EIGHTS; j++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int row = 8 * j + 2 * t + i;
        if (row >= tile.count) continue;
        Vec<scalar_t, 4> v;
#pragma unroll
        for (int c = 0; c < 4; c++)
          v[c] = from_float<scalar_t>(gated(gate[j][i][c] + gates[j][i][c], up[j][i][c] + ups[j][i][c], kind));
        store_four(out + row_of(row) * cols + column, v, columns);
      }
    }
  }
  if (!waited) wait_for_previous();
}
