// LoRA, first half, for many rows: h[t, part, r] = sum_k x[t, k] * A[r, k] on the tensor cores, f16 and bf16, sm_80 and newer.
//
// What it computes is lora_shrink's, for tiles of rows with one adapter (lora-tile.cuh). K is cut into ranges of 1024, 128 for
// each of the eight warps of a block. Neither operand needs shared memory: a product does not care in which order k runs, so a lane
// takes the 16 bytes of a row that lie together, k 8t .. 8t + 7, for the k of two mma.
//
//     A: ranks g, g + 8      x: row g      (g = lane / 4, t = lane % 4)
//
// A sum is a chain of mma in k order for each warp, then the warps in order, then the ranges of each of up to eight parts of K in
// order, then the parts: it depends on K alone. Where there are few blocks, each takes one part, and the second half adds
// them up: h is [split, T, parts, max_rank]. Where there are many, a block takes all of them, and split is 1.
// Grid: x: ranks, then parts of K; y: modules, then windows of 64 rows; z: tiles of a window, any number, of which the last find none.
// Traffic: x once per 16 ranks, A once per tile, from L2. Needs K a multiple of 32 and rows on 16 bytes.
// Shared memory: 9 KB.
#include "lora-tile.cuh"

constexpr int WARPS = 8, THREADS = 32 * WARPS;
constexpr int BLOCK_RANKS = 16; // also in tiles.ts
constexpr int CHUNK = 32, CHUNKS = 4, RANGE = WARPS * CHUNKS * CHUNK, PARTS_OF_K = 8; // these: tiles.ts
constexpr int SUMS_ROW = TILE_ROWS + 1;                               // floats, to spread ranks over banks
constexpr int SUMS = BLOCK_RANKS * TILE_ROWS / THREADS;               // that a thread finishes

__device__ __forceinline__ uint4 load_16(const scalar_t* p) { return *reinterpret_cast<const uint4*>(p); }

// sums[j][..] of ranks 0 .. 15 and rows 8j .. 8j + 7 over this warp's part of a range.
__device__ __forceinline__ void multiply(float (&sums)[EIGHTS][4], const scalar_t* (&a)[2],
                                         const scalar_t* (&x)[EIGHTS], int k0, int cols, int groups) {
#pragma unroll 2
  for (int k = k0; k < min(k0 + CHUNKS * CHUNK, cols); k += CHUNK) {
    const uint4 low = load_16(a[0] + k), high = load_16(a[1] + k);
    uint4 v[EIGHTS];
#pragma unroll
    for (int j = 0; j < EIGHTS; j++)
      if (j < groups) v[j] = load_16(x[j] + k);
#pragma unroll
    for (int j = 0; j < EIGHTS; j++) {
      if (j >= groups) continue;
      mma_16x8x16(sums[j], low.x, high.x, low.y, high.y, v[j].x, v[j].y);
      mma_16x8x16(sums[j], low.z, high.z, low.w, high.w, v[j].z, v[j].w);
    }
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 3)
    KERNEL_NAME(float* h, const scalar_t* x, const LoraEntry* table, const i32* slots, i32 rows, i32 cols, i32 parts,
                i32 max_rank, i32 split) {
  extern __shared__ float partial[]; // [warps][ranks][rows of the tile]
  __shared__ RowTile tile;
  allow_next();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int part = int(blockIdx.y) % parts, first = int(blockIdx.y) / parts * WINDOW, end = min(first + WINDOW, rows);
  const int rank_blocks = (max_rank + BLOCK_RANKS - 1) / BLOCK_RANKS;
  const int r0 = int(blockIdx.x) % rank_blocks * BLOCK_RANKS, own = int(blockIdx.x) / rank_blocks;
  const int ranges = (cols + RANGE - 1) / RANGE, count = min(ranges, PARTS_OF_K);
  const int first_part = split > 1 ? own : 0, end_part = split > 1 ? own + 1 : count;
  bool waited = false;

  for (int index = blockIdx.z;; index += gridDim.z) {
    find_tile(tile, slots, first, end, index, TILE_ROWS, false);
    if (tile.count == 0) break;
    const LoraEntry e = table[tile.slot * parts + part];
    const int ranks = min(BLOCK_RANKS, e.rank - r0);
    if (ranks <= 0) continue;

    // Rows and ranks that there are not stand for the last ones.
    const scalar_t* a[2];
    const scalar_t* in[EIGHTS];
#pragma unroll
    for (int i = 0; i < 2; i++) a[i] = e.a + i64(r0 + min(8 * i + g, ranks - 1)) * cols + 8 * t;
#pragma unroll
    for (int j = 0; j < EIGHTS; j++) in[j] = x + i64(first + tile.at[min(8 * j + g, tile.count - 1)]) * cols + 8 * t;
    if (!waited) {
      // Lines of the first range, while x is still being written.
      for (int i = threadIdx.x; i < ranks * RANGE / 64; i += THREADS) {
        const int k = ranges * first_part / count * RANGE + i % (RANGE / 64) * 64;
        if (k < cols) prefetch(e.a + i64(r0 + i / (RANGE / 64)) * cols + k, 2 * min(64, cols - k));
      }
      wait_for_previous();
      waited = true;
    }

    float total[SUMS] = {};
#pragma unroll 1
    for (int k_part = first_part; k_part < end_part; k_part++) {
      float inPart[SUMS] = {};
#pragma unroll 1
      for (int range = ranges * k_part / count; range < ranges * (k_part + 1) / count; range++) {
        float sums[EIGHTS][4] = {};
        multiply(sums, a, in, range * RANGE + warp * CHUNKS * CHUNK, cols, (tile.count + 7) / 8);
        __syncthreads(); // what was there has been used
#pragma unroll
        for (int j = 0; j < EIGHTS; j++) {
          float* to = partial + (warp * BLOCK_RANKS + g) * SUMS_ROW + 8 * j + 2 * t;
          to[0] = sums[j][0];
          to[1] = sums[j][1];
          to[8 * SUMS_ROW] = sums[j][2];
          to[8 * SUMS_ROW + 1] = sums[j][3];
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < SUMS; i++) {
          const int at = threadIdx.x + i * THREADS, r = at % BLOCK_RANKS, row = at / BLOCK_RANKS;
          float sum = 0.0f;
#pragma unroll
          for (int other = 0; other < WARPS; other++) sum += partial[(other * BLOCK_RANKS + r) * SUMS_ROW + row];
          inPart[i] += sum;
        }
      }
#pragma unroll
      for (int i = 0; i < SUMS; i++) total[i] += inPart[i];
    }
#pragma unroll
    for (int i = 0; i < SUMS; i++) {
      const int at = threadIdx.x + i * THREADS, r = at % BLOCK_RANKS, row = at / BLOCK_RANKS;
      if (r >= ranks || row >= tile.count) continue;
      const i64 line = split > 1 ? i64(own) * rows + first + tile.at[row] : i64(first + tile.at[row]);
      h[(line * parts + part) * max_rank + r0 + r] = total[i];
    }
  }
  if (!waited) wait_for_previous();
}
