// A tile of the general product, on the ordinary arithmetic units: any target, dtype, transposition, stride and alignment.
// float32 stays float32 (no TF32), which makes this the reference that the tensor-core kernels are checked against.
//
//              BN                   A block computes a BM x BN tile of D. Per step of BK (8 or 16) it brings BM x BK of A and
//         +----+----+               BK x BN of B to shared memory as float32, both with k as the slow index, and every
//      BK | Bs |    |               thread multiplies TM values of A by TN of B: TM + TN reads for TM * TN products, the
//     BK  +----+----+               reason that a tile pays. The next step's values wait in registers meanwhile, and two
//  +----+ +----+----+               buffers leave one barrier a step.
//  |As  | |    |    | BM
//  +----+ +----+----+               Columns of a thread: TN/2 from the left half of the tile and TN/2 from the right, so that
//                                   a warp's vector reads touch every bank once, and so that a gate meets its up.
//
// Traffic: each element of A is read N/BN times and each of B M/BM times. Bound by arithmetic for large shapes: 2MNK
// over 67 TFLOP/s on H200 (4096^3: 2.1 ms; no version with float32 units runs faster).
// Tiles: t128 (8 x 8 a thread, 256 threads, 17 KB shared) when there are enough tiles to fill the GPU; t64 (4 x 4, 256) below
// that; t32 (4 x 4, 64) for the smallest, where the number of blocks matters more than reuse.
#pragma once
#include "matmul.cuh"

struct t128 {
  static constexpr int BM = 128, BN = 128, TM = 8, TN = 8;
};
struct t64 {
  static constexpr int BM = 64, BN = 64, TM = 4, TN = 4;
};
struct t32 {
  static constexpr int BM = 32, BN = 32, TM = 4, TN = 4;
};
using Tile = VARIANT_TILE;
constexpr int BM = Tile::BM, BN = Tile::BN, TM = Tile::TM, TN = Tile::TN;
constexpr int BK = BM == 128 ? 8 : 16; // what waits in registers must leave two blocks of t128 room
constexpr int THREADS = (BM / TM) * (BN / TN);
constexpr int PAD = 4; // keeps rows 16-byte aligned and spreads the transposing stores over the banks
using Column = Columns<BN, BN>;
static_assert(BM == BN && BM * BK % (4 * THREADS) == 0, "threads divide a tile into whole quads, A and B alike");
constexpr int QUADS = BM * BK / 4 / THREADS;

struct Quad {
  float v[4];
};

// Four neighbours in memory, of which the first `valid` exist.
__device__ __forceinline__ Quad fetch(const scalar_t* at, int valid, bool vector) {
  Quad q;
  if (vector && valid >= 4) {
    const Vec<scalar_t, 4> raw = *reinterpret_cast<const Vec<scalar_t, 4>*>(at);
#pragma unroll
    for (int i = 0; i < 4; i++) q.v[i] = to_float(raw[i]);
  } else {
#pragma unroll
    for (int i = 0; i < 4; i++) q.v[i] = i < valid ? to_float(at[i]) : 0.0f;
  }
  return q;
}

// Place of a thread's i-th quad in a tile: (row or column, k) of its first element. Neighbouring threads read along the
// axis that is contiguous in memory.
struct Place {
  int line, k;
};
__device__ __forceinline__ Place place(int i, bool kContiguous) {
  const int q = threadIdx.x + i * THREADS;
  if (kContiguous) return {q / (BK / 4), q % (BK / 4) * 4};
  return {q % (BM / 4) * 4, q / (BM / 4)};
}

__device__ __forceinline__ void put(float (*shared)[BM + PAD], Place at, bool kContiguous, const Quad& q) {
#pragma unroll
  for (int i = 0; i < 4; i++) {
    if (kContiguous) shared[at.k + i][at.line] = q.v[i];
    else shared[at.k][at.line + i] = q.v[i];
  }
}

struct Fetched {
  Quad a[QUADS], b[QUADS];

  __device__ __forceinline__ void load(const Problem& p, int row0, const Column& columns, int k0) {
    const bool kA = !p.has(TRANSPOSE_A), kB = p.has(TRANSPOSE_B);
#pragma unroll
    for (int i = 0; i < QUADS; i++) {
      const Place at = place(i, kA);
      const int row = row0 + at.line, k = k0 + at.k;
      const int valid = kA ? (row < p.m ? p.k - k : 0) : (k < p.k ? p.m - row : 0);
      a[i] = fetch(p.a + (kA ? p.row_in_a(row) * p.lda + k : k * p.lda + row), valid, p.has(VECTOR_A));
    }
#pragma unroll
    for (int i = 0; i < QUADS; i++) {
      const Place at = place(i, kB);
      const int column = columns.in_d(at.line), k = k0 + at.k;
      const i64 line = columns.in_b(at.line);
      const int valid = kB ? (column < p.n ? p.k - k : 0) : (k < p.k ? p.n - column : 0);
      b[i] = fetch(p.b + (kB ? line * p.ldb + k : k * p.ldb + line), valid, p.has(VECTOR_B));
    }
  }

  __device__ __forceinline__ void store(const Problem& p, float (*sharedA)[BM + PAD], float (*sharedB)[BM + PAD]) const {
    const bool kA = !p.has(TRANSPOSE_A), kB = p.has(TRANSPOSE_B);
#pragma unroll
    for (int i = 0; i < QUADS; i++) put(sharedA, place(i, kA), kA, a[i]);
#pragma unroll
    for (int i = 0; i < QUADS; i++) put(sharedB, place(i, kB), kB, b[i]);
  }
};

// N consecutive floats of shared memory, in the widest reads that their alignment allows.
template <int N>
__device__ __forceinline__ void read(float* to, const float* from) {
  if constexpr (N % 4 == 0) {
#pragma unroll
    for (int i = 0; i < N; i += 4) *(float4*)(to + i) = *(const float4*)(from + i);
  } else {
    *(float2*)to = *(const float2*)from;
  }
}

// Columns of D in a tile.
__device__ __forceinline__ int tile_columns(const Problem& p) { return p.has(GATED) ? BN / 2 : BN; }

// The whole block computes one tile.
__device__ __forceinline__ void multiply_tile(const Problem& p, TileIndex tile) {
  const Column columns(p, tile.column);
  const int row0 = tile.row * BM;
  const int tx = threadIdx.x % (BN / TN), ty = threadIdx.x / (BN / TN);

  __shared__ __align__(16) float As[2][BK][BM + PAD];
  __shared__ __align__(16) float Bs[2][BK][BN + PAD];

  const int steps = tiles_of(p.k, BK);
  Fetched next;
  if (steps > 0) {
    next.load(p, row0, columns, 0);
    next.store(p, As[0], Bs[0]);
  }
  __syncthreads();

  float sum[TM][TN] = {};
  for (int step = 0; step < steps; step++) {
    if (step + 1 < steps) next.load(p, row0, columns, (step + 1) * BK);
#pragma unroll
    for (int k = 0; k < BK; k++) {
      alignas(16) float a[TM], b[TN];
      read<TM>(a, &As[step % 2][k][ty * TM]);
      read<TN / 2>(b, &Bs[step % 2][k][tx * (TN / 2)]);
      read<TN / 2>(b + TN / 2, &Bs[step % 2][k][BN / 2 + tx * (TN / 2)]);
#pragma unroll
      for (int i = 0; i < TM; i++) {
#pragma unroll
        for (int j = 0; j < TN; j++) sum[i][j] = fmaf(a[i], b[j], sum[i][j]);
      }
    }
    if (step + 1 < steps) next.store(p, As[(step + 1) % 2], Bs[(step + 1) % 2]);
    __syncthreads();
  }

  // ---- epilogue, row by row: the loop is not unrolled, to keep the code small; registers need constant indices
#pragma unroll 1
  for (int r = 0; r < TM; r++) {
    const int row = row0 + ty * TM + r;
    if (row >= p.m) break;
    float line[TN] = {};
#pragma unroll
    for (int i = 0; i < TM; i++) {
#pragma unroll
      for (int j = 0; j < TN; j++) line[j] = i == r ? sum[i][j] : line[j];
    }
#pragma unroll
    for (int j = 0; j < TN / 2; j++) {
      const int left = tx * (TN / 2) + j, right = BN / 2 + left;
      if (p.has(GATED)) {
        if (columns.in_d(left) < p.n) p.finish_gated(row, columns.in_d(left), line[j], line[j + TN / 2]);
      } else {
        if (columns.in_d(left) < p.n) p.finish(row, columns.in_d(left), line[j]);
        if (columns.in_d(right) < p.n) p.finish(row, columns.in_d(right), line[j + TN / 2]);
      }
    }
  }
}
