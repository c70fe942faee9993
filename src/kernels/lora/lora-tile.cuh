// What the tensor-core kernels of adapters share: tiles of rows with one adapter, and the second half's product; f16 and bf16,
// sm_80 and newer.
//
// A tile is up to 16 (or 32) rows with one adapter, of a window of 64 rows of the pass, wherever in it they lie. Every block finds
// its tiles for itself, from the window's slots: a few ballots. So A and B are read once for rows that share them, and tensor
// cores multiply few rows that are dropped, whether a batch has one adapter or one for each row.
//
// Ranks (of A) and columns (of B) are the 16 rows of an mma, rows of the batch its 8 columns: a tile of few rows is no waste.
#pragma once
#include "lora.cuh"
#include "../matmul/tensor-core.cuh"

inline constexpr int WINDOW = 64, TILE_ROWS = 16, EIGHTS = TILE_ROWS / 8; // tile: of the second half; also in tiles.ts

// In shared memory.
struct RowTile {
  i32 slot;
  int count;                // of rows; 0: the window has no more tiles
  unsigned char at[WINDOW]; // each row's place in the window
};

// Finds tile `index` of the window of rows [first, end): adapters in the order of their first rows. Rows without an adapter make
// tiles of slot -1, or none. For all threads of a block.
__device__ __forceinline__ void find_tile(RowTile& tile, const i32* slots, int first, int end, int index, int most, bool with_none) {
  __syncthreads(); // nobody reads the tile before any more
  if (threadIdx.x < 32) {
    const int lane = threadIdx.x;
    const i32 nothing = -2;
    const i32 low = first + lane < end ? slots[first + lane] : nothing;
    const i32 high = first + 32 + lane < end ? slots[first + 32 + lane] : nothing;
    const auto rows_where = [](bool inLow, bool inHigh) {
      return __ballot_sync(0xffffffffu, inLow) | u64(__ballot_sync(0xffffffffu, inHigh)) << 32;
    };
    const i32 least = with_none ? -1 : 0;
    i32 slot = nothing;
    int count = 0;
    for (u64 left = rows_where(low >= least, high >= least); left;) {
      const int lead = __ffsll(i64(left)) - 1;
      slot = __shfl_sync(0xffffffffu, lead < 32 ? low : high, lead % 32);
      const u64 mine = rows_where(low == slot, high == slot);
      const int rows = __popcll(i64(mine)), tiles = (rows + most - 1) / most;
      if (index < tiles) {
        count = min(most, rows - index * most);
#pragma unroll
        for (int row = lane; row < WINDOW; row += 32) {
          const int at = __popcll(i64(mine & ((u64(1) << row) - 1))) - index * most;
          if ((mine >> row & 1) && at >= 0 && at < most) tile.at[at] = (unsigned char)row;
        }
        break;
      }
      index -= tiles;
      left &= ~mine;
    }
    if (lane == 0) {
      tile.slot = slot;
      tile.count = count;
    }
  }
  __syncthreads();
}

__device__ __forceinline__ void mma_tf32(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// ---- the second half: s * h · B^T of a tile ------------------------------------------------------------------------
//
// h is float32 and stays so: tf32 takes its upper 11 bits, a second mma the next 11, and values of 16 bits are exact in tf32. It is
// laid down in shared memory, its parts of K added up in order. B goes from memory to registers: a lane takes the 16 bytes of a
// row that lie together, r 8t .. 8t + 7, for the r of four mma (g = lane / 4, t = lane % 4). The four rows of two mma that are
// lane g's stand for columns 4g .. 4g + 3 of 32, so that a row of y is read and written by whole sectors.

inline constexpr int COLUMNS = 32; // of a warp
inline constexpr int COLUMN_THREADS = 128, BLOCK_COLUMNS = 128;
inline constexpr int RANKS = 64, H_ROW = RANKS + 2; // of h at a time; the padding keeps half a warp's reads in different banks

// Barrier 0 is that of __syncthreads().
__device__ __forceinline__ void meet(int barrier) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "n"(COLUMN_THREADS) : "memory");
}

struct Left {
  const float* h; // [split, rows, parts, max_rank], at the window's first row
  i64 split_step; // floats
  int split, parts, max_rank;
};

// shared[i][r] = scale * h of the tile's row i, ranks r0 .. r0 + 63; zeros for rows and ranks that there are not. A thread has the
// same four ranks of two rows, whose loads go out together, of AT_ONCE parts of K.
template <int AT_ONCE>
__device__ __forceinline__ void stage_left(float (*shared)[H_ROW], const Left& left, const RowTile& tile, int part, int r0,
                                           int rank, float scale) {
  constexpr int LANES = RANKS / 4, APART = COLUMN_THREADS / LANES, ROWS = TILE_ROWS / APART;
  const int thread = threadIdx.x % COLUMN_THREADS, r = thread % LANES * 4, line = thread / LANES, there = rank - r0 - r;
  float sums[ROWS][4] = {};
  const float* from[ROWS];
#pragma unroll
  for (int i = 0; i < ROWS; i++)
    from[i] = left.h + (i64(tile.at[min(line + APART * i, tile.count - 1)]) * left.parts + part) * left.max_rank + r0 + r;
  if (there > 0 && left.max_rank % 4 == 0) {
#pragma unroll(AT_ONCE)
    for (int s = 0; s < left.split; s++) {
#pragma unroll
      for (int i = 0; i < ROWS; i++) {
        const Vec<float, 4> v = *reinterpret_cast<const Vec<float, 4>*>(from[i] + s * left.split_step);
#pragma unroll
        for (int j = 0; j < 4; j++) sums[i][j] += v[j];
      }
    }
  } else if (there > 0) {
#pragma unroll 1
    for (int s = 0; s < left.split; s++) {
#pragma unroll
      for (int i = 0; i < ROWS; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++)
          if (j < there) sums[i][j] += from[i][s * left.split_step + j];
      }
    }
  }
#pragma unroll
  for (int i = 0; i < ROWS; i++) {
    const bool has = line + APART * i < tile.count;
#pragma unroll
    for (int j = 0; j < 4; j++) shared[line + APART * i][r + j] = has && j < there ? scale * sums[i][j] : 0.0f;
  }
}

// Numbers r .. r + 7 of a row of `rank`; zeros past its end.
__device__ __forceinline__ Vec<scalar_t, 8> eight(const scalar_t* row, int r, int rank, bool wide) {
  Vec<scalar_t, 8> v = {};
  if (wide) {
    if (r < rank) v = *reinterpret_cast<const Vec<scalar_t, 8>*>(row + r);
  } else {
#pragma unroll
    for (int i = 0; i < 8; i++)
      if (r + i < rank) v[i] = row[r + i];
  }
  return v;
}

// sums[j][i][c]: of row 8j + 2t + i of the tile, column 4g + c behind `first`. Columns from `end` on, and those that the adapter
// leaves alone, get 0. Ascending r: an order that depends on nothing. For COLUMN_THREADS threads, which meet at `barrier`, and
// whose warps have the 128 columns from `block_first` on.
template <int AT_ONCE>
__device__ __forceinline__ void adapter_sums(float (&sums)[EIGHTS][2][4], float (*shared)[H_ROW], const LoraEntry* entries,
                                             const Left& left, const RowTile& tile, int block_first, int first, int end,
                                             int barrier) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  float own[2][EIGHTS][4] = {}; // of two mma: columns, then rows of the tile
#pragma unroll 1
  for (int part = 0; part < left.parts; part++) {
    const LoraEntry e = entries[part];
    if (e.rank == 0 || e.begin >= block_first + BLOCK_COLUMNS || e.begin + e.width <= block_first) continue;
    const bool wide = e.rank % 8 == 0;
#pragma unroll 1
    for (int r = 0; r < e.rank; r += 32) {
      Vec<scalar_t, 8> b[4]; // on their way while h is laid down
#pragma unroll
      for (int c = 0; c < 4; c++) {
        const int column = first + 4 * g + c, mine = column - e.begin;
        const bool has = column < end && mine >= 0 && mine < e.width;
        b[c] = eight(e.b + i64(mine) * e.rank, has ? r + 8 * t : e.rank, e.rank, wide);
      }
      if (r % RANKS == 0) {
        meet(barrier); // what was there has been used
        stage_left<AT_ONCE>(shared, left, tile, part, r, e.rank, e.scale);
        meet(barrier);
      }
#pragma unroll
      for (int q = 0; q < 4; q++) {
        u32 a[2][4];
#pragma unroll
        for (int m = 0; m < 2; m++) {
#pragma unroll
          for (int i = 0; i < 4; i++) a[m][i] = __float_as_uint(to_float(b[2 * m + i % 2][2 * q + i / 2]));
        }
#pragma unroll
        for (int j = 0; j < EIGHTS; j++) {
          if (8 * j >= tile.count) continue;
          const float2 v = *reinterpret_cast<const float2*>(&shared[8 * j + g][r % RANKS + 8 * t + 2 * q]);
          const u32 x = __float_as_uint(v.x) & 0xffffe000u, y = __float_as_uint(v.y) & 0xffffe000u;
          const u32 restX = __float_as_uint(v.x - __uint_as_float(x)) & 0xffffe000u;
          const u32 restY = __float_as_uint(v.y - __uint_as_float(y)) & 0xffffe000u;
#pragma unroll
          for (int m = 0; m < 2; m++) {
            mma_tf32(own[m][j], a[m], x, y);
            mma_tf32(own[m][j], a[m], restX, restY);
          }
        }
      }
    }
  }
#pragma unroll
  for (int j = 0; j < EIGHTS; j++) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
#pragma unroll
      for (int c = 0; c < 4; c++) sums[j][i][c] = own[c / 2][j][c % 2 * 2 + i];
    }
  }
}

// Asks for the rows of B behind the block's columns for the adapter, a thread for each row; before the wait for the kernel before.
__device__ __forceinline__ void prefetch_columns(const LoraEntry* entries, int parts, int column) {
  for (int part = 0; part < parts; part++) {
    const LoraEntry e = entries[part];
    if (e.rank == 0 || column < e.begin || column >= e.begin + e.width) continue;
    prefetch(e.b + i64(column - e.begin) * e.rank, e.rank * int(sizeof(scalar_t)));
  }
}

// Four columns of a row of D, of which `columns` exist; at once where the address allows it.
template <typename T>
__device__ __forceinline__ Vec<T, 4> load_four(const T* from, int columns) {
  Vec<T, 4> v = {};
  if (columns >= 4 && reinterpret_cast<u64>(from) % sizeof(v) == 0) return *reinterpret_cast<const Vec<T, 4>*>(from);
#pragma unroll
  for (int c = 0; c < 4; c++)
    if (c < columns) v[c] = from[c];
  return v;
}
template <typename T>
__device__ __forceinline__ void store_four(T* to, const Vec<T, 4>& v, int columns) {
  if (columns >= 4 && reinterpret_cast<u64>(to) % sizeof(v) == 0) {
    *reinterpret_cast<Vec<T, 4>*>(to) = v;
    return;
  }
#pragma unroll
  for (int c = 0; c < 4; c++)
    if (c < columns) to[c] = v[c];
}
