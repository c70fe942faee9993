// LoRA, first half, for prompts: h[t, part, r] = sum_k x[t, k] * A[r, k] on the tensor cores, f16 and bf16, sm_80 and newer.
//
// What it computes is lora_shrink's. A block has 16 rows and 32 ranks; its sixteen warps share K out, 32 at a time. Neither operand
// needs shared memory: a product does not care in which order k runs, so a lane takes the 16 bytes of a row that lie together,
// k 8t .. 8t + 7, for the k of two mma.
//
//     x: rows g and g + 8      A: ranks g, g + 8, ...     (g = lane / 4, t = lane % 4)
//
// For each adapter among the 16 rows there is a pass over K, of which the others' results are dropped: a prompt has one adapter, so
// that only where two meet there are two.
// Sums: a chain of mma in k order for each warp, then the warps in order: they depend on K alone.
// Grid: x: ranks, then rows; y: part. Traffic: x once per 32 ranks, A once per 16 rows, from L2. Needs K a multiple of 32 and rows
// on 16 bytes. Shared memory: 32 KB.
#include "lora.cuh"
#include "../matmul/tensor-core.cuh"

constexpr int WARPS = 16, THREADS = 32 * WARPS;
constexpr int ROWS = 16, RANKS = 32, TILES = RANKS / 8, CHUNK = 32;

__device__ __forceinline__ uint4 load_16(const scalar_t* p) { return *reinterpret_cast<const uint4*>(p); }

extern "C" __global__ void __launch_bounds__(THREADS)
    KERNEL_NAME(float* h, const scalar_t* x, const LoraEntry* table, const i32* slots, i32 rows, i32 cols, i32 parts,
                i32 max_rank) {
  __shared__ float partial[WARPS][ROWS][RANKS];
  allow_next();
  wait_for_previous();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int part = blockIdx.y, rank_blocks = (max_rank + RANKS - 1) / RANKS;
  const int r0 = int(blockIdx.x) % rank_blocks * RANKS;
  const int first = int(blockIdx.x) / rank_blocks * ROWS;
  const int end = min(first + ROWS, rows);
  // Rows and ranks that there are not stand for the last ones.
  const scalar_t* low = x + i64(min(first + g, rows - 1)) * cols + 8 * t;
  const scalar_t* high = x + i64(min(first + g + 8, rows - 1)) * cols + 8 * t;

  for (u32 left = rows_of_tile(first, end); left;) {
    const u32 mine = rows_with_adapter(slots, first, left);
    left &= ~mine;
    const i32 slot = slots[first + __ffs(int(mine)) - 1];
    const LoraEntry* e = table + slot * parts + part;
    const int ranks = slot >= 0 ? min(RANKS, e->rank - r0) : 0;
    if (ranks > 0) {
      const scalar_t* a = e->a + i64(r0) * cols + 8 * t;
      float sums[TILES][4] = {};
#pragma unroll 2
      for (int k = warp * CHUNK; k < cols; k += WARPS * CHUNK) {
        const uint4 upper = load_16(low + k), lower = load_16(high + k);
        uint4 w[TILES];
#pragma unroll
        for (int j = 0; j < TILES; j++)
          if (8 * j < ranks) w[j] = load_16(a + i64(min(8 * j + g, ranks - 1)) * cols + k);
#pragma unroll
        for (int j = 0; j < TILES; j++) {
          if (8 * j >= ranks) continue;
          mma_16x8x16(sums[j], upper.x, lower.x, upper.y, lower.y, w[j].x, w[j].y);
          mma_16x8x16(sums[j], upper.z, lower.z, upper.w, lower.w, w[j].z, w[j].w);
        }
      }
#pragma unroll
      for (int j = 0; j < TILES; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++) partial[warp][g + i / 2 * 8][8 * j + 2 * t + i % 2] = sums[j][i];
      }
      __syncthreads();
      for (int at = threadIdx.x; at < ROWS * RANKS; at += THREADS) {
        const int row = at / RANKS, r = at % RANKS;
        if (r >= ranks || !(mine >> row & 1u)) continue;
        float sum = 0.0f;
#pragma unroll
        for (int other = 0; other < WARPS; other++) sum += partial[other][row][r];
        h[(i64(first + row) * parts + part) * max_rank + r0 + r] = sum;
      }
      __syncthreads();
    }
  }
}
