// What hopper.cu is made for: the sizes of its tiles, the problem, and the order in which tiles are taken.
#pragma once
#include "hopper-ptx.cuh"
#include "../common/launch.cuh"

template <int ROWS, int COLS, int STAGES, int CLUSTER>
struct Shape {
  static constexpr int rows = ROWS, cols = COLS, stages = STAGES, cluster = CLUSTER;
};
#ifndef HOPPER_SHAPE  // tuning may compile other shapes under the same name
typedef Shape<128, 256, 4, 2> m128n256;
typedef Shape<128, 128, 6, 1> m128n128;
typedef Shape<128, 64, 8, 1> m128n64;
typedef Shape<64, 128, 8, 1> m64n128;
typedef Shape<64, 64, 12, 1> m64n64;
using Tile = VARIANT_TILE;
#else
using Tile = HOPPER_SHAPE;
#endif

constexpr int DEPTH = 64;  // columns of K in a stage: 128 bytes, one row of the swizzle
constexpr int ROWS = Tile::rows;
constexpr int COLS = Tile::cols;
constexpr int STAGES = Tile::stages;
constexpr int CLUSTER = Tile::cluster;
constexpr int CONSUMERS = ROWS / 64;
constexpr int THREADS = 128 * (1 + CONSUMERS);
constexpr bool PARTS = CLUSTER == 1;  // of K, which are for few rows; clusters that share B are for many

constexpr u32 A_BYTES = ROWS * DEPTH * 2;
constexpr u32 HALF_B_BYTES = COLS / 2 * DEPTH * 2;  // B comes in two boxes of COLS / 2 rows
constexpr u32 STAGE_BYTES = A_BYTES + 2 * HALF_B_BYTES;
// Output staging: a warp's 16 rows x 64 columns, twice, so that one is filled while the copy engine reads the other.
constexpr u32 STAGING_BOX_BYTES = 16 * 64 * 2;
constexpr u32 STAGING_BYTES = CONSUMERS * 4 * 2 * STAGING_BOX_BYTES;
constexpr u32 BARRIER_BYTES = 2 * STAGES * 8;
// The launcher asks for this many, and 1024 more to align the start: see sharedBytes in hopper.ts.
constexpr u32 SHARED_BYTES = STAGES * STAGE_BYTES + STAGING_BYTES + BARRIER_BYTES;

static_assert(COLS == 64 || COLS == 128 || COLS == 256, "wgmma is instantiated for these N");
static_assert(SHARED_BYTES + 1024 <= 227 * 1024, "shared memory of an SM");
static_assert(STAGE_BYTES % 1024 == 0 && HALF_B_BYTES % 1024 == 0, "swizzle groups are 1024 bytes");

struct Problem {
  void* out;             // [M, N], rows ldd elements apart
  const scalar_t* bias;  // [N], or [2N] with a gate; or null
  const void* residual;  // [M, N] of the output's type, rows ldr elements apart; or null
  i64 ldd, ldr;
  i32 m, n, k;
  float alpha;
  i32 group_rows;
  i32 gate;       // 0 none, 1 SiLU, 2 GELU (tanh)
  i32 store;      // see Store
  i32 split;      // parts of K
  i32 box_rows;   // of A that a copy brings: all of a tile's, or fewer
  i32 column_tiles, row_tiles;  // of D, in cluster tiles: CLUSTER * ROWS rows, COLS columns (COLS / 2 with a gate)
};

enum Store {
  kBulk = 0,    // 16-bit, by the copy engine: `out` 16-byte aligned, ldd a multiple of 8, no residual
  kScalar = 1,  // 16-bit, any alignment
  kFloat = 2,   // float32
};

// ---- the order of tiles --------------------------------------------------------------------------------------------

struct Place {
  int row, col;  // of this block's tile in D
};

// Tile `index` of the walk: groups of group_rows tile rows; inside a group column by column, top to bottom.
__device__ __forceinline__ Place place_of(const Problem& p, int index, u32 rank, int width) {
  int in_group = p.group_rows * p.column_tiles;
  int group = index / in_group;
  int rest = index - group * in_group;
  int first_row = group * p.group_rows;
  int rows = min(p.group_rows, p.row_tiles - first_row);
  int column = rest / rows;
  int row = first_row + rest - column * rows;
  return {(row * CLUSTER + int(rank)) * ROWS, column * width};
}
