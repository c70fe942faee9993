// Few rows times a weight on the tensor cores: D[M, N] = x[M, K] · W[N, K]^T, M = 1..16, 16-bit types, sm_80 and newer.
// The decode path: the weight is read once, at the memory's speed, whatever M is.
//
// Bound by the weight's 2NK bytes (117 MB, 25 us at the 4.6 TB/s an H200 reads, for 14336 x 4096). By Little's law
// 4.6 TB/s x 0.8 us is 3.7 MB, 28 KB for each of 132 multiprocessors, that must be under way at any time; several
// times that, so that it stays so while warps multiply, and so that few multiprocessors suffice when the last tiles run
// out. Registers do not hold that much, shared memory does.
//
//            k ->                            A tile is 32 (or 16) rows of W; a block stays and takes every so-manieth.
//      +--------+--------+--   --+--------+  Its eight warps take turns along K, SPAN = 64 elements at a time: an item
//  W   | warp 0 | warp 1 |  ..   | warp 0 |  of a warp is 32 rows x 128 bytes, whole lines, and the same k of x.
//      +--------+--------+--   --+--------+  Every warp has a ring of STAGES items of its own in shared memory.
//
// cp.async fills the ring, past registers and L1, so that 128 KB of W is in flight on a multiprocessor while a thread needs
// some 100 registers. No warp waits for another until a tile ends: a warp reads only what it has copied, and the ring goes on
// into the next tile, so memory never idles between tiles. One mma.m16n8k16 multiplies 16 rows of W by 8 rows of x: half
// the x of an arrangement with W as the 8-wide operand. x comes from L2, M/32 of the weight's traffic.
//
// Neither operand needs ldmatrix. The product does not care in which order k runs, as long as both operands agree, so a
// lane reads the 16 bytes that lie together and calls them the k of two fragments:
//
//     one row:  | 0 .. 7 | 8 .. 15 | 16 .. 23 | 24 .. 31 |     lane (g, t) of row g reads k 8t .. 8t+7;
//     lane t:       t=0       t=1        t=2        t=3        the first mma takes its k 8t .. 8t+3,
//                                                              the second 8t+4 .. 8t+7
//
// Gated: a tile is 8 gate rows, the 8 up rows of the same columns, 8 more gates, ...; both sums meet in shared memory.
//
// Sums: two chains in k order, added, then the eight warps in order. They depend on K only, not on M, N, the tile nor the
// grid: a row's result has the same bits in every batch of up to 16.
// Needs rows of x and W that start on 16 bytes. Block: 256 threads. Shared memory, by tile and rows of x (8, 16):
// 32: 169, 210 KB, one block a multiprocessor; 16: 77, 74 KB, for GPUs with less; deep: 16 rows with a longer ring, 128, 141 KB, for
// weights whose rows it shares out more evenly, with room for a block of 90 KB beside it that the next kernel may start.
// Registers: 104 and 122 (tile 32), 88 and 99 (tile 16), 88 and 101 (deep); no spills.
// Measured (H200, bf16, weights from memory, next to cuBLASLt in the same run): 14336 x 4096, M = 1 / 8 / 16:
// 32.4 / 33.2 / 35.2 us (30.4 / 29.8 / 32.1); 4096 x 14336: 29.2 / 29.7 / 31.4 us (31.0 / 31.5 / 31.9); with overlap,
// one after the other, M = 1: 28.6 and 26.7 us.
#pragma once
#include "matmul.cuh"
#include "tensor-core.cuh"
#include "../common/launch.cuh"

constexpr int deep = -16;               // the tile of 16 rows with the longer ring
constexpr int TILE = VARIANT_TILE == deep ? 16 : VARIANT_TILE; // rows of W: 32 or 16; half as many columns of D when gated
constexpr int NB = VARIANT_ROWS / 8;    // groups of 8 rows of x
constexpr int GROUPS = TILE / 16;       // groups of 16 rows of W
constexpr int WARPS = 8;                // these four: gemvMmaTiles in specs.ts
constexpr int SPAN = 64;
constexpr int STAGES = VARIANT_TILE == deep ? (NB == 1 ? 5 : 4) : TILE == 32 ? 4 : NB == 1 ? 3 : 2;
constexpr int RESIDENT = VARIANT_TILE == 16 ? 2 : 1; // blocks of a multiprocessor
constexpr int STEPS = SPAN / 32;        // of two mma
constexpr int ROW_BYTES = SPAN * 2;
constexpr int PIECES = ROW_BYTES / 16;  // of 16 bytes, in a row of an item
constexpr int ROWS_AT_ONCE = 32 / PIECES;
constexpr int W_BYTES = TILE * ROW_BYTES, ITEM_BYTES = W_BYTES + 8 * NB * ROW_BYTES;
constexpr int PITCH = TILE + 4;         // of a row of sums: stores of a warp then hit every bank once
constexpr int RING_BYTES = WARPS * (STAGES * ITEM_BYTES + 8 * NB * PITCH * 4); // gemvMmaSharedBytes in specs.ts

// Where a piece lies in W's or x's part of an item. Eight lanes read four pieces of two neighbouring rows at once: odd rows
// swap their halves, so that these lie in different banks.
__device__ __forceinline__ int place(int row, int piece) { return row * ROW_BYTES + (piece ^ (row % 2 * 4)) * 16; }

__device__ __forceinline__ uint4 load_16(const unsigned char* p) { return *reinterpret_cast<const uint4*>(p); }

__device__ __forceinline__ void copy_16(shared_address dst, const scalar_t* src) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(dst), "l"(__cvta_generic_to_global(src)) : "memory");
}
// The same for what nobody reads again in this step: first to leave L2, before activations, code, norms, keys and values.
__device__ __forceinline__ void copy_16_once(shared_address dst, const scalar_t* src) {
#if LLCUDA_TARGET >= 90
  u64 policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(dst),
               "l"(__cvta_generic_to_global(src)), "l"(policy)
               : "memory");
#else
  copy_16(dst, src);
#endif
}

// One piece of a row, its elements from k on; those from `end` on become zeros.
template <bool ONCE>
__device__ __forceinline__ void copy_piece(shared_address dst, const scalar_t* row, int k, int end, bool whole) {
  if (whole && ONCE) copy_16_once(dst, row + k);
  else if (whole) copy_16(dst, row + k);
  else copy_async(dst, k < end ? row + k : row, min(max(end - k, 0), 8) * 2);
}

// The items of a warp in order, as the copies walk them; the multiplication follows STAGES items later. `stop` is what the
// work wants to remember of a tile.
template <typename Work>
struct Item {
  int tile, round;
  typename Work::Stop stop;
  __device__ __forceinline__ void next(const Work& work, int rounds) {
    if (++round == rounds) {
      round = 0;
      tile += gridDim.x;
      stop = work.stop(tile);
    }
  }
};

// A lane copies a piece of X_STEPS rows of x: in step i of row i * ROWS_AT_ONCE + lane / PIECES.
constexpr int X_STEPS = 8 * NB / ROWS_AT_ONCE;

// Columns of D in a tile.
__device__ __forceinline__ int tile_columns(const Problem& p) { return p.has(GATED) ? TILE / 2 : TILE; }

// The block takes tiles blockIdx.x, blockIdx.x + gridDim.x, ... of `work`, which says what a tile is:
//   Problem common()       what does not change from tile to tile: n, k, flags, ldb
//   int tiles()            how many there are
//   Stop stop(int tile)    what is to be remembered of a tile while its items are copied; of one past the last: anything
//   weight(item)           the weight of the item's tile
//   rows(item)             how many rows of x it has, at most 8 * NB
//   x(item, i, row)        where the row that this lane copies in step i begins
//   Problem at(int tile)   the product that the tile is part of, for the epilogue
//   int column(int tile)   which of the tiles along that product's columns it is
//   int rows_always()      rows of x that every tile has
//   bool knows_weights()   whether tiles() and stop() may be asked before wait_for_previous()
// `shared`: gemvMmaSharedBytes, aligned to 128 bytes.
template <typename Work>
__device__ __forceinline__ void multiply_tiles(const Work& work, unsigned char* shared) {
  const Problem p = work.common();
  if (!work.knows_weights()) wait_for_previous();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int g = lane / 4, t = lane % 4;
  const bool gated = p.has(GATED);
  const int columns = tile_columns(p);
  const int tiles = work.tiles(), rounds = tiles_of(p.k, SPAN * WARPS);
  unsigned char* ring = shared + warp * STAGES * ITEM_BYTES;
  float* partial = reinterpret_cast<float*>(shared + WARPS * STAGES * ITEM_BYTES);

  const int piece = lane % PIECES;
  const auto first_of = [&](int round) { return (round * WARPS + warp) * SPAN; };
  const auto copy_w = [&](int stage, const Item<Work>& item) {
    const int first = first_of(item.round);
    if (item.tile >= tiles || first >= p.k) return;
    const scalar_t* weight = work.weight(item);
    const int column0 = work.column(item.tile) * columns;
    const shared_address dst = to_shared(ring + stage * ITEM_BYTES);
#pragma unroll
    for (int i = 0; i < TILE; i += ROWS_AT_ONCE) {
      const int row = i + lane / PIECES;
      const int column = min(column0 + (gated ? row / 16 * 8 + row % 8 : row), p.n - 1);
      const i64 in_b = column + (gated && row / 8 % 2 ? i64(p.n) : 0);
      copy_piece<true>(dst + place(row, piece), weight + in_b * p.ldb, first + piece * 8, p.k, first + SPAN <= p.k);
    }
  };
  const auto copy_x = [&](int stage, const Item<Work>& item) {
    const int first = first_of(item.round);
    if (item.tile >= tiles || first >= p.k) return;
    const shared_address dst = to_shared(ring + stage * ITEM_BYTES + W_BYTES);
#pragma unroll
    for (int i = 0; i < X_STEPS; i++) {
      const int row = i * ROWS_AT_ONCE + lane / PIECES;
      if (row < work.rows(item)) {
        copy_piece<false>(dst + place(row, piece), work.x(item, i, row), first + piece * 8, p.k, first + SPAN <= p.k);
      }
    }
  };

  // ---- the weights of the first items are on their way before the previous kernel has finished writing x
  const Item<Work> begin = {int(blockIdx.x), 0, work.stop(blockIdx.x)};
  Item<Work> ahead = begin;
#pragma unroll
  for (int s = 0; s < STAGES; s++) {
    copy_w(s, ahead);
    commit_copies();
    ahead.next(work, rounds);
  }
  // Rows of x that do not exist are zeros until another tile's x comes there; their products are never used.
  for (int i = lane; i < STAGES * 8 * NB * PIECES; i += 32) {
    const int s = i / (8 * NB * PIECES), row = i / PIECES % (8 * NB);
    if (row < work.rows_always()) continue;
    *reinterpret_cast<uint4*>(ring + s * ITEM_BYTES + W_BYTES + place(row, i % PIECES)) = make_uint4(0, 0, 0, 0);
  }
  __syncwarp(); // copies of other lanes go there
  allow_next();
  if (work.knows_weights()) wait_for_previous();
  ahead = begin;
#pragma unroll
  for (int s = 0; s < STAGES; s++) {
    copy_x(s, ahead);
    commit_copies();
    ahead.next(work, rounds);
  }

  int stage = 0;
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    // ---- multiply the oldest item, then refill its place. Of the groups of copies only the STAGES - 1 after it may be
    // pending: one group an item, x alone for the first ones, whose W lies in the groups before.
    float sum[GROUPS][NB][2][4] = {};
    for (int round = 0; round < rounds; round++) {
      wait_copies<STAGES - 1>();
      __syncwarp();
      const unsigned char* item = ring + stage * ITEM_BYTES;
      // Where K ends inside a round, the warps behind its end have copied nothing.
      const int steps = first_of(round) < p.k ? STEPS : 0;
#pragma unroll
      for (int i = 0; i < STEPS; i++) {
        if (i >= steps) break;
        uint4 x[NB];
#pragma unroll
        for (int b = 0; b < NB; b++) x[b] = load_16(item + W_BYTES + place(8 * b + g, 4 * i + t));
#pragma unroll
        for (int q = 0; q < GROUPS; q++) {
          const uint4 lower = load_16(item + place(16 * q + g, 4 * i + t));
          const uint4 upper = load_16(item + place(16 * q + 8 + g, 4 * i + t));
#pragma unroll
          for (int b = 0; b < NB; b++) {
            mma_16x8x16(sum[q][b][0], lower.x, upper.x, lower.y, upper.y, x[b].x, x[b].y);
            mma_16x8x16(sum[q][b][1], lower.z, upper.z, lower.w, upper.w, x[b].z, x[b].w);
          }
        }
      }
      __syncwarp();
      copy_w(stage, ahead);
      copy_x(stage, ahead);
      commit_copies();
      ahead.next(work, rounds);
      stage = stage + 1 == STAGES ? 0 : stage + 1;
    }

    // ---- over the chains, then over the warps
    float* mine = partial + warp * 8 * NB * PITCH;
#pragma unroll
    for (int q = 0; q < GROUPS; q++) {
#pragma unroll
      for (int b = 0; b < NB; b++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          mine[(8 * b + 2 * t + i % 2) * PITCH + 16 * q + i / 2 * 8 + g] = sum[q][b][0][i] + sum[q][b][1][i];
        }
      }
    }
    __syncthreads();
    const Problem done = work.at(tile);
    for (int i = threadIdx.x; i < done.m * columns; i += 32 * WARPS) {
      const int m = i / columns, c = i % columns, column = work.column(tile) * columns + c;
      if (column >= p.n) continue;
      const float* from = partial + m * PITCH + (gated ? c / 8 * 16 + c % 8 : c);
      float total = 0.0f, up = 0.0f;
#pragma unroll
      for (int w = 0; w < WARPS; w++) {
        total += from[w * 8 * NB * PITCH];
        if (gated) up += from[w * 8 * NB * PITCH + 8];
      }
      if (gated) done.finish_gated(m, column, total, up);
      else done.finish(m, column, total);
    }
    __syncthreads();
  }
}
