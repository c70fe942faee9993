// A tile of the tensor-core product of sm_80 and newer: f16 and bf16, float32 sums, mma.m16n8k16.
//
//   global --cp.async--> shared memory, STAGES deep --ldmatrix--> registers --mma--> sums in registers --epilogue--> global
//
//            BN                        A block computes a BM x BN tile of D; each of its warps a WM x WN part of it, in
//        +---------+                   mma of 16 x 8. K advances BK = 64 elements (128 bytes of a row) at a time. While a stage
//     BK |  stage  |                   is multiplied, the copies of the next STAGES - 1 are under way: no thread waits for
//    BK  +---------+                   memory, and no register holds what is in flight.
//  +---+ +----+----+
//  |   | | WM |    | BM                Warp tiles of 64 x 64 because shared memory delivers 128 bytes a clock: a k-step
//  |   | | WN |    |                   reads (64 + 64) * 32 bytes for 64 * 64 * 16 products: 64 bytes a clock at A100's rate of
//  +---+ +----+----+                   1024 products a clock; 64 x 32 would need 96.
//
// Swizzle: a row of a stage is eight 16-byte chunks; chunk c of row r lies at place c ^ (r % 8). The eight rows that an
// ldmatrix phase reads at one k then lie in eight different bank groups, and so do the chunks that cp.async writes.
//
// K-split tiles (t32x32, t64x32, t32x64; WARPS_K = 4): for 17..64 rows the product is bound by memory, and a small tile
// cut among warps would read shared memory several times over. Instead every warp computes the whole tile for one of
// the four 16-wide slices of BK, so each byte is read once, and the four sums are added through shared memory, in order.
//
// Epilogue: all sums go through shared memory, where the stages were, and a rolled loop finishes them row by row. Finished
// where they lie in registers they would take 128 copies of it: 20 times the code, and half a second to five of the driver's time.
//
// Traffic: A N/BN times and B M/BM times, mostly from L2 (tile_of_block). Bound by mma for large shapes: 2MNK over
// the rate of mma.sync (312 TFLOP/s on A100 by its data sheet, 4096^3: 0.44 ms); on Hopper only wgmma reaches the full rate.
// Tiles with one warp along K add k in the same order: their results agree bit for bit, whatever tile a shape gets.
// Needs rows of A and B that start on 16 bytes; any M, N, K. A is [M, K]; B [N, K] (nk) or [K, N] (kn, ldmatrix.trans).
#pragma once
#include "matmul.cuh"
#include "tensor-core.cuh"

// Registers: 64 x 64 warp tiles hold 128 sums a lane. Shared memory: STAGES * (BM + BN) * 128 bytes.
struct t128x256 { // the largest reuse: 144 KB, one block a multiprocessor (sm_80, sm_90)
  static constexpr int BM = 128, BN = 256, STAGES = 3, WARPS_M = 2, WARPS_N = 4, WARPS_K = 1, BLOCKS = 1;
};
struct t128x128 { // 96 KB, fits sm_86 and sm_89 too; four warps of 64 x 64
  static constexpr int BM = 128, BN = 128, STAGES = 3, WARPS_M = 2, WARPS_N = 2, WARPS_K = 1, BLOCKS = 2;
};
struct t64x64 { // 64 KB; too few tiles for the large ones
  static constexpr int BM = 64, BN = 64, STAGES = 4, WARPS_M = 2, WARPS_N = 2, WARPS_K = 1, BLOCKS = 3;
};
struct t64x32 { // 72 KB; 33..64 rows
  static constexpr int BM = 64, BN = 32, STAGES = 6, WARPS_M = 1, WARPS_N = 1, WARPS_K = 4, BLOCKS = 3;
};
struct t32x64 { // 72 KB; 17..32 rows, wide N: half of t32x32's reads of A
  static constexpr int BM = 32, BN = 64, STAGES = 6, WARPS_M = 1, WARPS_N = 1, WARPS_K = 4, BLOCKS = 3;
};
struct t32x32 { // 64 KB; 17..32 rows
  static constexpr int BM = 32, BN = 32, STAGES = 8, WARPS_M = 1, WARPS_N = 1, WARPS_K = 4, BLOCKS = 3;
};
struct nk {
  static constexpr bool kContiguous = true;
};
struct kn {
  static constexpr bool kContiguous = false;
};
using Tile = VARIANT_TILE;
constexpr bool B_IS_NK = VARIANT_B::kContiguous;
constexpr int BM = Tile::BM, BN = Tile::BN, BK = 64, STAGES = Tile::STAGES;
constexpr int WARPS_M = Tile::WARPS_M, WARPS_N = Tile::WARPS_N, WARPS_K = Tile::WARPS_K;
constexpr int THREADS = 32 * WARPS_M * WARPS_N * WARPS_K;
constexpr int WM = BM / WARPS_M, WN = BN / WARPS_N;
constexpr int MI = WM / 16, NI = WN / 8; // mma tiles of a warp
constexpr int SLICES = BK / 16;
constexpr int A_CHUNKS = BM * BK / 8, B_CHUNKS = BN * BK / 8; // of 16 bytes, in a stage
constexpr int A_COPIES = A_CHUNKS / THREADS, B_COPIES = B_CHUNKS / THREADS;
constexpr int B_ROW = B_IS_NK ? BK / 8 : BN / 8; // chunks in a row of B's stage
constexpr int STAGE_BYTES = 16 * (A_CHUNKS + B_CHUNKS);
using Column = Columns<BN, WN>;
static_assert(WARPS_K == 1 || WARPS_K == SLICES, "a warp takes all slices of a stage, or one");
static_assert(A_CHUNKS % THREADS == 0 && B_CHUNKS % THREADS == 0, "every thread copies the same number of chunks");
// Eight more floats a row than columns: the four rows that half a warp writes lie in different banks.
constexpr int SUMS_ROW = BN + 8;
static_assert(WARPS_K * BM * SUMS_ROW * 4 <= STAGES * STAGE_BYTES, "the sums fit where the stages were");

__device__ __forceinline__ u32 swizzled(int row, int chunk, int rowChunks) {
  return 16 * (row * rowChunks + (chunk ^ (row % 8)));
}

// One thread's share of the copies of a stage: chunks threadIdx.x + i * THREADS. Its rows are then a multiple of eight
// apart, so one swizzled place and one pointer serve all i; only the rows of a gated weight need an offset each.
constexpr int A_STEP = THREADS / (BK / 8), B_STEP = THREADS / B_ROW;
static_assert(THREADS % B_ROW == 0 && A_STEP % 8 == 0 && B_STEP % 8 == 0, "the swizzle repeats every eight rows");
struct Copies {
  const scalar_t* a;
  const scalar_t* b;
  i64 stepA;         // elements between this thread's chunks, where rows lie one after another
  u32 rowA[A_COPIES]; // where they do not: where each row starts, in 16 bytes
  u32 rowB[B_COPIES]; // B [N, K]: where each row starts, in 16 bytes
  u32 toA, toB;      // in the stage
  u32 validA, validB; // bit i: the i-th row of A (row of B [N, K]) exists
  int columnsLeft;   // B [K, N]: columns from the chunk's first to the end

  __device__ __forceinline__ Copies(const Problem& p, int row0, const Column& columns) : validA(0), validB(0) {
    const int row = threadIdx.x / (BK / 8), c = threadIdx.x % (BK / 8);
    a = p.a + (p.order ? 0 : (row0 + row) * p.lda) + c * 8;
    stepA = A_STEP * p.lda;
    toA = swizzled(row, c, BK / 8);
#pragma unroll
    for (int i = 0; i < A_COPIES; i++) {
      validA |= u32(row0 + row + i * A_STEP < p.m) << i;
      if (p.order) rowA[i] = u32(p.row_in_a(row0 + row + i * A_STEP) * p.lda / 8);
    }

    const int line = threadIdx.x / B_ROW, at = threadIdx.x % B_ROW;
    toB = 16 * A_CHUNKS + swizzled(line, at, B_ROW);
    if constexpr (B_IS_NK) {
      b = p.b + at * 8;
#pragma unroll
      for (int i = 0; i < B_COPIES; i++) {
        const bool exists = columns.in_d(line + i * B_STEP) < p.n;
        validB |= u32(exists) << i;
        rowB[i] = exists ? u32(columns.in_b(line + i * B_STEP) * p.ldb / 8) : 0;
      }
    } else {
      columnsLeft = p.n - columns.in_d(8 * at);
      b = p.b + line * p.ldb + columns.in_b(8 * at);
    }
  }

  // Starts the quarter `part` of the copies of K-tile `tile` to the stage at `stage`. A copy of no bytes reads nothing,
  // so the address of a row that does not exist is harmless.
  __device__ __forceinline__ void start(const Problem& p, shared_address stage, int tile, int part) const {
    const int k0 = tile * BK;
    const int bytes = max(0, min(16, 2 * (p.k - k0 - int(threadIdx.x) % (BK / 8) * 8)));
#pragma unroll
    for (int i = 0; i < A_COPIES; i++) {
      if (i % SLICES != part) continue;
      const i64 line = p.order ? i64(rowA[i]) * 8 : i * stepA;
      copy_async(stage + toA + 16 * i * THREADS, a + k0 + line, validA >> i & 1 ? bytes : 0);
    }
#pragma unroll
    for (int i = 0; i < B_COPIES; i++) {
      if (i % SLICES != part) continue;
      if constexpr (B_IS_NK) {
        copy_async(stage + toB + 16 * i * THREADS, b + k0 + i64(rowB[i]) * 8, validB >> i & 1 ? bytes : 0);
      } else {
        const int k = k0 + i * B_STEP;
        const bool exists = k + int(threadIdx.x) / B_ROW < p.k;
        copy_async(stage + toB + 16 * i * THREADS, b + k * p.ldb, exists ? max(0, min(16, 2 * columnsLeft)) : 0);
      }
    }
  }
};

struct Fragments {
  u32 a[MI][4]; // 16 x 16 each
  u32 b[NI][2]; // 16 x 8 each

  __device__ __forceinline__ void load(shared_address stage, int row0, int column0, int slice) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < MI; i++) {
      load_matrices(a[i], stage + swizzled(row0 + 16 * i + lane % 16, 2 * slice + lane / 16, BK / 8));
    }
    const shared_address stageB = stage + 16 * A_CHUNKS;
#pragma unroll
    for (int j = 0; j < NI; j += 2) { // two fragments: (columns 0..7, k 0..7), (.., k 8..15), (columns 8..15, k 0..7), ..
      u32 r[4];
      if constexpr (B_IS_NK) {
        const int column = column0 + 8 * j + lane / 16 * 8 + lane % 8;
        load_matrices(r, stageB + swizzled(column, 2 * slice + lane / 8 % 2, B_ROW));
      } else {
        const int k = 16 * slice + lane / 8 % 2 * 8 + lane % 8;
        load_matrices_transposed(r, stageB + swizzled(k, (column0 + 8 * j) / 8 + lane / 16, B_ROW));
      }
      b[j][0] = r[0];
      b[j][1] = r[1];
      b[j + 1][0] = r[2];
      b[j + 1][1] = r[3];
    }
  }
};

__device__ __forceinline__ void multiply(float (&sum)[MI][NI][4], const Fragments& f) {
#pragma unroll
  for (int i = 0; i < MI; i++) {
#pragma unroll
    for (int j = 0; j < NI; j++) {
      mma_16x8x16(sum[i][j], f.a[i][0], f.a[i][1], f.a[i][2], f.a[i][3], f.b[j][0], f.b[j][1]);
    }
  }
}

// Columns of D in a tile.
__device__ __forceinline__ int tile_columns(const Problem& p) { return p.has(GATED) ? BN / 2 : BN; }

// The whole block computes one tile. `shared`: STAGES * STAGE_BYTES, aligned to 128 bytes.
__device__ __forceinline__ void multiply_tile(const Problem& p, TileIndex tile, unsigned char* shared) {
  const shared_address stages = to_shared(shared);
  const Column columns(p, tile.column);
  const int row0 = tile.row * BM;
  const int warp = threadIdx.x / 32;
  const int warpK = warp / (WARPS_M * WARPS_N);
  const int warpRow = warp / WARPS_N % WARPS_M * WM, warpColumn = warp % WARPS_N * WN;

  // ---- fill the pipeline: one group per stage, empty ones past the end of K, so that the count of groups stays right
  const Copies copies(p, row0, columns);
  const int steps = tiles_of(p.k, BK);
#pragma unroll 1
  for (int s = 0; s < STAGES - 1; s++) {
    if (s < steps) {
#pragma unroll
      for (int part = 0; part < SLICES; part++) copies.start(p, stages + s * STAGE_BYTES, s, part);
    }
    commit_copies();
  }

  // ---- the main loop: wait for a stage, refill the one before it, multiply
  float sum[MI][NI][4] = {};
  int now = 0, refill = STAGES - 1;
  for (int step = 0; step < steps; step++) {
    wait_copies<STAGES - 2>();
    __syncthreads(); // everybody's copies have arrived, and everybody has finished with the stage that is refilled now
    const shared_address stage = stages + now * STAGE_BYTES, target = stages + refill * STAGE_BYTES;
    const bool more = step + STAGES - 1 < steps;
    if constexpr (WARPS_K == 1) {
      Fragments f[2]; // the next slice is read while this one is multiplied
      f[0].load(stage, warpRow, warpColumn, 0);
#pragma unroll
      for (int slice = 0; slice < SLICES; slice++) {
        if (slice + 1 < SLICES) f[(slice + 1) % 2].load(stage, warpRow, warpColumn, slice + 1);
        if (more) copies.start(p, target, step + STAGES - 1, slice);
        multiply(sum, f[slice % 2]);
      }
    } else {
      if (more) {
#pragma unroll
        for (int part = 0; part < SLICES; part++) copies.start(p, target, step + STAGES - 1, part);
      }
      Fragments f;
      f.load(stage, warpRow, warpColumn, warpK);
      multiply(sum, f);
    }
    commit_copies();
    now = now + 1 == STAGES ? 0 : now + 1;
    refill = refill + 1 == STAGES ? 0 : refill + 1;
  }

  // ---- epilogue: the stages are free and take the sums, [warpK][row][column]
  wait_copies<0>();
  __syncthreads();
  const int lane = threadIdx.x % 32;
  float* sums = (float*)shared + (warpK * BM + warpRow + lane / 4) * SUMS_ROW + warpColumn + lane % 4 * 2;
#pragma unroll
  for (int i = 0; i < MI; i++) {
#pragma unroll
    for (int j = 0; j < NI; j++) {
      *(float2*)(sums + 16 * i * SUMS_ROW + 8 * j) = make_float2(sum[i][j][0], sum[i][j][1]);
      *(float2*)(sums + (16 * i + 8) * SUMS_ROW + 8 * j) = make_float2(sum[i][j][2], sum[i][j][3]);
    }
  }
  __syncthreads();
  finish_tile<BM, BN, WN, THREADS, SUMS_ROW, WARPS_K>(p, columns, row0, (const float*)shared);
}
