// What the two tensor-core kernels for few rows share: how warps divide W, x in shared memory, scaled sums, and their end.
//
//            k ->                                A task is 16 rows of W and one of `slices` parts of K: the spans (256 values)
//      +-------+-------+-------+---              slice, slice + slices, ... A warp has one task at a time and streams
//  W   | warp 0| warp 1| warp 0| ..  slices = 2  through it without waiting for others; the warps of a tile, neighbours in
//      +-------+-------+-------+---              one block, meet once, when their sums are added. `slices` comes from N, K and
//      | warp 2| warp 3| warp 2| ..              the device, so that tasks fill the GPU in whole rounds, if they can.
//      +-------+-------+-------+---
//
// Scales are applied to sums, not to weights. q (a level, or a whole number) is exact in 16 bits or nearly so (codeScale in
// choose.ts); one m16n8k16 multiplies 16 rows of W and 8 of x over 16 k that share a scale; the float32 sums of a group times
// its scale, minus its min times the sum of x, are added up in float32. So a weight is never rounded to 16 bits.
//
// Sums: by group in k order, then the slices in order. They depend on N, K and the device, not on M nor the grid: a row's
// result has the same bits in every batch of up to 16.
#pragma once
#include "quant.cuh"
#include "fragments.cuh"
#include "../common/launch.cuh"
#include "../matmul/tensor-core.cuh"

constexpr int NB = VARIANT_ROWS / 8; // groups of 8 rows of x
constexpr int TILE = 16;
constexpr int COMPONENTS = Format::HAS_MIN ? 2 : 1;
constexpr int PITCH = TILE + 4;              // floats between columns of sums: stores of a warp hit every bank once
constexpr int SUMS_BYTES = 2 * 8 * NB * PITCH * 4; // of a warp; two, so that one barrier a tile is enough

// Where a warp stands among the tasks.
struct Share {
  int slices, groups, group, slice; // groups: tiles that a block has in hand at once

  __device__ __forceinline__ Share(int slices_) : slices(slices_) {
    const int warp = threadIdx.x / 32;
    groups = blockDim.x / 32 / slices;
    group = warp / slices;
    slice = warp % slices;
  }
  // Tiles are dealt to blocks in turns, so that a last, partial round is shared by all multiprocessors.
  __device__ __forceinline__ int first_tile() const { return blockIdx.x + gridDim.x * group; }
  __device__ __forceinline__ int tile_step() const { return gridDim.x * groups; }
};

// The spans of a warp, in order.
struct Cursor {
  int tile, span;
  // Whether the next one is of another tile.
  __device__ __forceinline__ bool next(const Share& share, int spans) {
    span += share.slices;
    if (span < spans) return false;
    span = share.slice;
    tile += share.tile_step();
    return true;
  }
};

__device__ __forceinline__ int columns_of_tile(const Problem& p) { return p.has(GATED) ? TILE / 2 : TILE; }

// Copies x to shared memory, rows `rowBytes` apart, behind 128 bytes of zeros. 0: it does not fit, and is read through L1.
constexpr int ZERO_BYTES = 128;
__device__ __forceinline__ void stage_x(const Problem& p, u8* xShared, int rowBytes) {
  if (threadIdx.x < ZERO_BYTES / 4) reinterpret_cast<u32*>(xShared)[threadIdx.x] = 0;
  if (!rowBytes) return;
  for (int row = 0; row < p.m; row++) {
    for (int at = threadIdx.x; at < p.k / 8; at += blockDim.x) {
      store_vec(reinterpret_cast<scalar_t*>(xShared + ZERO_BYTES + row * rowBytes) + 8 * at, load_vec(p.a + row * p.lda + 8 * at));
    }
  }
}

// The rows of x that this lane feeds to the multiplication. A row that does not exist is the zeros, at every k.
struct XRows {
  const u8* row[NB];
  int step[NB]; // bytes from one k to the next

  __device__ __forceinline__ XRows(const Problem& p, const u8* xShared, int rowBytes) {
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int b = 0; b < NB; b++) {
      const int r = 8 * b + threadIdx.x % 32 / 4;
      const u8* start = rowBytes ? xShared + ZERO_BYTES + r * rowBytes : reinterpret_cast<const u8*>(p.a + r * p.lda);
      row[b] = (r < p.m ? start + 2 * Format::offset(t, 0) : xShared);
      step[b] = r < p.m ? 2 : 0;
    }
  }
  // The pairs of x that belong to the pairs of lane t in a chunk, whose k start at `k`.
  __device__ __forceinline__ void load(u32 (&x)[NB][8], int k) const {
#pragma unroll
    for (int b = 0; b < NB; b++) {
      const u8* from = row[b] + k * step[b];
      if constexpr (Format::WIDE) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
          const uint4 v = *reinterpret_cast<const uint4*>(from + 2 * Format::offset(0, 2 * i));
          x[b][4 * i] = v.x;
          x[b][4 * i + 1] = v.y;
          x[b][4 * i + 2] = v.z;
          x[b][4 * i + 3] = v.w;
        }
      } else {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const uint2 v = *reinterpret_cast<const uint2*>(from + 2 * Format::offset(0, i));
          x[b][2 * i] = v.x;
          x[b][2 * i + 1] = v.y;
        }
      }
    }
  }
};

// total += scaled products of one chunk. low, high: the pairs of rows g and g + 8; scales: [row half][group][component].
__device__ __forceinline__ void multiply_chunk(float (&total)[NB][4], const u32 (&low)[8], const u32 (&high)[8],
                                               const u32 (&x)[NB][8], const float (&scales)[2][GROUPS_IN_CHUNK * COMPONENTS]) {
#pragma unroll
  for (int group = 0; group < GROUPS_IN_CHUNK; group++) {
#pragma unroll
    for (int b = 0; b < NB; b++) {
      float sum[4] = {}, sumX[4] = {};
#pragma unroll
      for (int i = group * 4 / GROUPS_IN_CHUNK; i < (group + 1) * 4 / GROUPS_IN_CHUNK; i++) {
        mma_16x8x16(sum, low[2 * i], high[2 * i], low[2 * i + 1], high[2 * i + 1], x[b][2 * i], x[b][2 * i + 1]);
        if constexpr (Format::HAS_MIN) mma_16x8x16(sumX, ONES, ONES, ONES, ONES, x[b][2 * i], x[b][2 * i + 1]);
      }
#pragma unroll
      for (int j = 0; j < 4; j++) {
        total[b][j] = fmaf(scales[j / 2][group * COMPONENTS], sum[j], total[b][j]);
        if constexpr (Format::HAS_MIN) total[b][j] = fmaf(-scales[j / 2][group * COMPONENTS + 1], sumX[j], total[b][j]);
      }
    }
  }
}

// Adds the slices of a tile and stores D. `sums`: of the block; `buffer` alternates from tile to tile.
__device__ __forceinline__ void finish_tile(const Problem& p, const Share& share, float* sums, int buffer, int tile,
                                            const float (&total)[NB][4], float factor) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  constexpr int WARP = 8 * NB * PITCH;
  float* group = sums + (2 * share.group + buffer) * share.slices * WARP;
  float* mine = group + share.slice * WARP;
#pragma unroll
  for (int b = 0; b < NB; b++) {
#pragma unroll
    for (int i = 0; i < 4; i++) mine[(8 * b + 2 * t + i % 2) * PITCH + i / 2 * 8 + g] = total[b][i];
  }
  if (share.slices == 1) __syncwarp();
  else asm volatile("bar.sync %0, %1;" ::"r"(1 + share.group), "r"(32 * share.slices) : "memory");

  const bool gated = p.has(GATED);
  const int columns = columns_of_tile(p);
  for (int i = 32 * share.slice + lane; i < p.m * columns; i += 32 * share.slices) {
    const int row = i / columns, in_tile = i % columns, column = tile * columns + in_tile;
    if (column >= p.n) continue;
    const float* from = group + row * PITCH + in_tile;
    float sum = 0.0f, up = 0.0f;
#pragma unroll 4
    for (int s = 0; s < share.slices; s++) {
      sum += from[s * WARP];
      if (gated) up += from[s * WARP + 8];
    }
    if (gated) p.finish_gated(row, column, sum * factor, up * factor);
    else p.finish(row, column, sum * factor);
  }
}
