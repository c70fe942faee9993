// LoRA, second half, for prompts: y[t, n] += scale * sum_r h[t, part of n, r] * B[n, r] on the tensor cores; see lora-tile.cuh
//
// What it computes is lora_expand's. A block has 16 rows and 256 columns, a warp 64 of them. For each adapter among the rows there is
// a pass, which changes only its own. Grid: x: 256 columns; y: 16 rows. Traffic: y twice, B once per 16 rows, from L2.
#include "lora-tile.cuh"

constexpr int WARPS = 4, THREADS = 32 * WARPS, GROUPS = 4;

extern "C" __global__ void __launch_bounds__(THREADS)
    KERNEL_NAME(scalar_t* y, const float* h, const LoraEntry* table, const i32* slots, i32 rows, i32 cols, i32 parts,
                i32 max_rank) {
  allow_next();
  wait_for_previous();
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int column = (blockIdx.x * WARPS + threadIdx.x / 32) * GROUP * GROUPS;
  const int first = blockIdx.y * TILE_ROWS, end = min(first + TILE_ROWS, rows);
  if (column >= cols) return;
  for (u32 left = rows_of_tile(first, end); left;) {
    const u32 mine = rows_with_adapter(slots, first, left);
    left &= ~mine;
    const i32 slot = slots[first + __ffs(int(mine)) - 1];
    if (slot >= 0) {
      float sums[GROUPS][2][4];
      const float* tile = h + first * i64(parts) * max_rank;
      adapter_sums(sums, table + slot * parts, parts, column, cols, tile, mine, max_rank);
#pragma unroll
      for (int q = 0; q < GROUPS; q++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
          const int line = first + g + 8 * i;
          if (!(mine >> (line - first) & 1u)) continue;
#pragma unroll
          for (int j = 0; j < 4; j++) {
            const int c = column + GROUP * q + 4 * t + j;
            const float sum = sums[q][j / 2][2 * i + j % 2];
            if (c >= cols || sum == 0.0f) continue;
            scalar_t* at = y + i64(line) * cols + c;
            *at = from_float<scalar_t>(to_float(*at) + sum);
          }
        }
      }
    }
  }
}
