// What the products of many rows with a quantized weight share: tiles, splits of K, and their end.
#pragma once
#include "quant.cuh"
#include "../common/launch.cuh"
#include "../matmul/tensor-core.cuh"

constexpr int BM = 64, BN = 128, WN = 32; // rows of x and of W in a tile; rows of W of a warp
constexpr int SUMS_ROW = BN + 4; // floats: the stores of a fragment's sums hit every bank once
using Column = Columns<BN, WN>;

// The tile of a block: blocks that share a tile of W are neighbours.
struct Place {
  int m, tile, row0, halves; // m: of the whole product
  __device__ __forceinline__ Place(Problem& p, int passRows) {
    m = p.m;
    const int passes = tiles_of(p.m, passRows);
    tile = blockIdx.x / passes;
    row0 = blockIdx.x % passes * passRows;
    p.m = min(p.m, row0 + passRows);
    halves = tiles_of(p.m - row0, 32);
  }
};

// The spans of a split, and its steps of K / `STEP` elements.
template <int STEP>
struct Part {
  int firstSpan, endSpan, first, end;
  __device__ __forceinline__ Part(int k, int splits) {
    const int spans = tiles_of(k, SPAN), split = blockIdx.y;
    firstSpan = spans * split / splits;
    endSpan = spans * (split + 1) / splits;
    first = SPAN / STEP * firstSpan;
    end = min(SPAN / STEP * endSpan, tiles_of(k, STEP));
  }
};

// Row of W behind column c of a tile; row 0 behind one that does not exist, which nobody reads.
__device__ __forceinline__ i64 existing_row(const Problem& p, const Column& columns, int c) {
  return columns.in_d(c) < p.n ? columns.in_b(c) : 0;
}

// This split's part of a tile, [splits, M, rows of W], from sums as finish_tile takes them.
template <int THREADS, int ROWS, int SLICES>
__device__ __forceinline__ void store_part(const Problem& p, const Place& place, const Column& columns, int row0, const float* sums,
                                           float* parts) {
  const int c = threadIdx.x % BN;
  if (columns.in_d(c) >= p.n) return;
  const i64 width = p.has(GATED) ? 2 * i64(p.n) : p.n, column = columns.in_b(c);
#pragma unroll 1
  for (int row = threadIdx.x / BN; row < min(ROWS, p.m - row0); row += THREADS / BN) {
    float sum = 0.0f;
#pragma unroll
    for (int s = 0; s < SLICES; s++) sum += sums[(s * ROWS + row) * SUMS_ROW + c];
    parts[(i64(blockIdx.y) * place.m + row0 + row) * width + column] = sum;
  }
}
