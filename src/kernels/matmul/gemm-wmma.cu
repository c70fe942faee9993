// The tensor-core product of sm_70 and sm_75: f16, float32 sums, wmma 16 x 16 x 16.
//
// These GPUs have no cp.async: a thread loads its part of the next K-tile to registers, multiplies the present tile out of
// shared memory, and then stores the registers to the other of two buffers: one barrier a tile.
//
//   global -> registers (next tile) ... -> shared memory, 2 buffers -> fragments -> wmma -> sums in registers
//
// A block computes a BM x BN tile of D, each warp a WM x WN part of it, K advances BK = 32. Rows in shared memory are padded
// by 16 bytes: without, the rows that a fragment load reads together would lie in the same banks.
// The end goes through shared memory as well, 16 rows of a warp at a time: a fragment's layout is the hardware's secret, so
// only a stored one has rows and columns.
//
// Traffic: A N/BN times, B M/BM times. Bound by wmma: 2MNK over 125 TFLOP/s on V100 (4096^3: 1.1 ms).
// Tiles: t128 (8 warps of 64 x 32; 40 KB), t64 (4 warps of 32 x 32; 20 KB) where there are too few of those.
// A is [M, K]; B [N, K] (nk) or [K, N] (kn); any alignment, M, N, K: chunks that are not whole are loaded by element.
#include "matmul.cuh"
#include "tensor-core.cuh"

struct t128 {
  static constexpr int BM = 128, BN = 128, WARPS_M = 2, WARPS_N = 4;
};
struct t64 {
  static constexpr int BM = 64, BN = 64, WARPS_M = 2, WARPS_N = 2;
};
struct nk {
  static constexpr bool kContiguous = true;
};
struct kn {
  static constexpr bool kContiguous = false;
};
using Tile = VARIANT_TILE;
constexpr bool B_IS_NK = VARIANT_B::kContiguous;
constexpr int BM = Tile::BM, BN = Tile::BN, BK = 32;
constexpr int THREADS = 32 * Tile::WARPS_M * Tile::WARPS_N;
constexpr int WM = BM / Tile::WARPS_M, WN = BN / Tile::WARPS_N, MI = WM / 16, NI = WN / 16;
constexpr int A_ROW = BK + 8, B_ROW = (B_IS_NK ? BK : BN) + 8; // elements, padding included
constexpr int A_SIZE = BM * A_ROW, B_SIZE = (B_IS_NK ? BN : BK) * B_ROW;
constexpr int A_LOADS = BM * BK / 8 / THREADS, B_LOADS = BN * BK / 8 / THREADS;
using Column = Columns<BN, WN>;
static_assert(NI % 2 == 0, "a gated warp has as many gate pieces as up pieces");
static_assert((A_SIZE + B_SIZE) * 2 * 2 >= THREADS / 32 * 16 * WN * 4, "every warp's strip of sums fits in the buffers");

// Eight neighbours in memory, of which the first `valid` exist.
__device__ __forceinline__ vec_t fetch(const scalar_t* at, int valid, bool vector) {
  if (vector && valid >= 8) return load_vec(at);
  vec_t v;
#pragma unroll
  for (int i = 0; i < 8; i++) v[i] = i < valid ? at[i] : scalar_t{};
  return v;
}

struct Fetched {
  vec_t a[A_LOADS], b[B_LOADS];

  __device__ __forceinline__ void load(const Problem& p, int row0, const Column& columns, int k0) {
#pragma unroll
    for (int i = 0; i < A_LOADS; i++) {
      const int chunk = threadIdx.x + i * THREADS, row = row0 + chunk / (BK / 8), k = k0 + chunk % (BK / 8) * 8;
      a[i] = fetch(p.a + row * p.lda + k, row < p.m ? p.k - k : 0, p.has(VECTOR_A));
    }
#pragma unroll
    for (int i = 0; i < B_LOADS; i++) {
      const int chunk = threadIdx.x + i * THREADS;
      if constexpr (B_IS_NK) {
        const int column = chunk / (BK / 8), k = k0 + chunk % (BK / 8) * 8;
        const int valid = columns.in_d(column) < p.n ? p.k - k : 0;
        b[i] = fetch(p.b + columns.in_b(column) * p.ldb + k, valid, p.has(VECTOR_B));
      } else {
        const int column = chunk % (BN / 8) * 8, k = k0 + chunk / (BN / 8);
        const int valid = k < p.k ? p.n - columns.in_d(column) : 0;
        b[i] = fetch(p.b + k * p.ldb + columns.in_b(column), valid, p.has(VECTOR_B));
      }
    }
  }

  __device__ __forceinline__ void store(scalar_t* sharedA, scalar_t* sharedB) const {
#pragma unroll
    for (int i = 0; i < A_LOADS; i++) {
      const int chunk = threadIdx.x + i * THREADS;
      store_vec(sharedA + chunk / (BK / 8) * A_ROW + chunk % (BK / 8) * 8, a[i]);
    }
    constexpr int perRow = (B_IS_NK ? BK : BN) / 8;
#pragma unroll
    for (int i = 0; i < B_LOADS; i++) {
      const int chunk = threadIdx.x + i * THREADS;
      store_vec(sharedB + chunk / perRow * B_ROW + chunk % perRow * 8, b[i]);
    }
  }
};

extern "C" __global__ void __launch_bounds__(THREADS) KERNEL_NAME(MATMUL_PARAMETERS) {
  MATMUL_PROBLEM
  __shared__ __align__(32) scalar_t shared[2 * (A_SIZE + B_SIZE)];
  scalar_t* const As[2] = {shared, shared + A_SIZE};
  scalar_t* const Bs[2] = {shared + 2 * A_SIZE, shared + 2 * A_SIZE + B_SIZE};
  const int perTile = p.has(GATED) ? BN / 2 : BN;
  const TileIndex tile = tile_of_block(tiles_of(p.m, BM), tiles_of(p.n, perTile));
  const Column columns(p, tile.column);
  const int row0 = tile.row * BM;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int warpRow = warp / Tile::WARPS_N * WM, warpColumn = warp % Tile::WARPS_N * WN;

  const int steps = tiles_of(p.k, BK);
  Fetched next;
  if (steps > 0) {
    next.load(p, row0, columns, 0);
    next.store(As[0], Bs[0]);
  }
  __syncthreads();

  FragmentC sum[MI][NI] = {};
  for (int step = 0; step < steps; step++) {
    const scalar_t* a = shared + step % 2 * A_SIZE;
    const scalar_t* b = shared + 2 * A_SIZE + step % 2 * B_SIZE;
    if (step + 1 < steps) next.load(p, row0, columns, (step + 1) * BK);
#pragma unroll
    for (int k = 0; k < BK; k += 16) {
      FragmentAB fragA[MI], fragB[NI];
#pragma unroll
      for (int i = 0; i < MI; i++) wmma_load_a(fragA[i], a + (warpRow + 16 * i) * A_ROW + k, A_ROW);
#pragma unroll
      for (int j = 0; j < NI; j++) {
        const int column = warpColumn + 16 * j;
        wmma_load_b<!B_IS_NK>(fragB[j], B_IS_NK ? b + column * B_ROW + k : b + k * B_ROW + column, B_ROW);
      }
#pragma unroll
      for (int i = 0; i < MI; i++) {
#pragma unroll
        for (int j = 0; j < NI; j++) wmma_multiply<!B_IS_NK>(sum[i][j], fragA[i], fragB[j]);
      }
    }
    if (step + 1 < steps) next.store(shared + (step + 1) % 2 * A_SIZE, shared + 2 * A_SIZE + (step + 1) % 2 * B_SIZE);
    __syncthreads();
  }

  // ---- epilogue: a warp's strips of 16 rows one after the other through its 16 x WN floats of the buffers. The loop over
  // a strip's elements is not unrolled, to keep the code small.
  float* strip = (float*)shared + warp * 16 * WN;
  const bool gated = p.has(GATED);
  const int width = gated ? WN / 2 : WN;
#pragma unroll
  for (int i = 0; i < MI; i++) {
#pragma unroll
    for (int j = 0; j < NI; j++) wmma_store(strip + 16 * j, sum[i][j], WN);
    __syncwarp();
#pragma unroll 1
    for (int e = lane; e < 16 * width; e += 32) {
      const int line = e / width, c = e % width;
      const int row = row0 + warpRow + 16 * i + line, column = columns.in_d(warpColumn + c);
      if (row >= p.m || column >= p.n) continue;
      const float* at = strip + line * WN + c;
      if (gated) p.finish_gated(row, column, at[0], at[WN / 2]);
      else p.finish(row, column, at[0]);
    }
    __syncwarp();
  }
}
