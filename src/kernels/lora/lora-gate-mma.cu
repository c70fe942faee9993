// LoRA, second half of a gated pair, for prompts: lora_gate on the tensor cores; see lora-tile.cuh
//
// A block has 16 rows and 128 columns of out, a warp 32 of them. For each adapter among the rows, and none, there is a pass,
// which writes only its own. Grid: x: 128 columns; y: 16 rows. Traffic: z once, B once per 16 rows, from L2.
#include "lora-tile.cuh"
#include "../activation/gated.cuh"

constexpr int WARPS = 4, THREADS = 32 * WARPS, GROUPS = 2;

extern "C" __global__ void __launch_bounds__(THREADS)
    KERNEL_NAME(scalar_t* out, const float* z, const float* h, const LoraEntry* table, const i32* slots, i32 rows, i32 cols,
                i32 parts, i32 max_rank, i32 kind) {
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
    float gates[GROUPS][2][4] = {}, ups[GROUPS][2][4] = {};
    if (slot >= 0) {
      const float* tile = h + first * i64(parts) * max_rank;
      adapter_sums(gates, table + slot * parts, parts, column, cols, tile, mine, max_rank);
      adapter_sums(ups, table + slot * parts, parts, cols + column, 2 * cols, tile, mine, max_rank);
    }
#pragma unroll
    for (int q = 0; q < GROUPS; q++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int line = first + g + 8 * i;
        if (!(mine >> (line - first) & 1u)) continue;
#pragma unroll
        for (int j = 0; j < 4; j++) {
          const int c = column + GROUP * q + 4 * t + j;
          if (c >= cols) continue;
          const float* from = z + i64(line) * 2 * cols + c;
          const float gate = from[0] + gates[q][j / 2][2 * i + j % 2], up = from[cols] + ups[q][j / 2][2 * i + j % 2];
          out[i64(line) * cols + c] = from_float<scalar_t>(gated(gate, up, kind));
        }
      }
    }
  }
}
