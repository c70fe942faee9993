// Few rows times a weight on the tensor cores: D[M, N] = x[M, K] · W[N, K]^T, M = 1..16, 16-bit types, sm_80 and newer.
// The decode path: the weight is read once, at the memory's speed, whatever M is.
//
// Bound by the weight's 2NK bytes (117 MB, 27 us at 4.3 TB/s, for 14336 x 4096). gemv.cu needs 1 + M instructions for
// every weight and runs out of issue slots near M = 8; here one mma.m16n8k16 multiplies 8 rows of W by 16 rows of x,
// and the lanes do nothing but load.
//
// Neither operand goes through shared memory. The product does not care in which order k runs, as long as both operands
// agree, so each lane loads the 16 bytes that lie together in memory and calls them the k of two fragments:
//
//     memory, one row:  | 0 .. 7 | 8 .. 15 | 16 .. 23 | 24 .. 31 |     lane t of row g loads k 8t .. 8t+7;
//     lane t:               t=0       t=1        t=2        t=3        the first mma takes its k 8t .. 8t+3,
//                                                                      the second 8t+4 .. 8t+7
//
// A block owns 8 rows of W; its `split` warps take turns along K, BATCH = 256 elements (512 bytes of each row) at a time.
// A lane has U = 8 independent 16-byte loads in flight: 4 KB a warp, 64 KB a multiprocessor with 16 warps. x comes through
// L1 (M/8 of the weight's traffic). Four accumulators take turns, or the latency of dependent mma would show.
// Gated: the warps of the upper half of the block do the same for rows N + n, and meet in shared memory.
//
// Sums: four chains in k order, added in order, then the warps in order. Nothing depends on M (nor on which of the two
// variants runs): a row's result has the same bits in every batch of up to 16.
// Needs rows of x and W that start on 16 bytes. Block: 32 * split (* 2 if gated) threads. Shared memory: 8 KB, 16 rows.
#include "matmul.cuh"
#include "tensor-core.cuh"
#include "../common/launch.cuh"

constexpr int M = VARIANT_ROWS; // 8 or 16
constexpr int COLUMNS = 8;      // weight rows of a block; gemvColumns in choose.ts
constexpr int U = 8;
constexpr int STEP = 32;        // k covered by one load of a warp
constexpr int BATCH = U * STEP; // gemvBatch in choose.ts
constexpr int CHAINS = 4;
constexpr int MAX_WARPS = 16;

// Eight elements of a row from k on, zero from `end` on: the end of K need not be a multiple of eight.
__device__ __forceinline__ uint4 load_guarded(const scalar_t* row, int k, int end) {
  vec_t v;
#pragma unroll
  for (int i = 0; i < 8; i++) v[i] = k + i < end ? row[k + i] : scalar_t{};
  return *reinterpret_cast<uint4*>(&v);
}

struct Weights {
  uint4 v[U];

  __device__ __forceinline__ void load(const scalar_t* row, int k, int end) {
    const bool whole = k + BATCH <= end;
    const int lane = threadIdx.x % 4 * 8;
#pragma unroll
    for (int u = 0; u < U; u++) {
      const int at = k + u * STEP + lane;
      if (whole) {
        const vec_t w = load_vec_streaming(row + at);
        v[u] = *reinterpret_cast<const uint4*>(&w);
      } else {
        v[u] = load_guarded(row, at, end);
      }
    }
  }
};

// A lane whose row of x does not exist multiplies zeros.
__device__ __forceinline__ uint4 load_x(const scalar_t* row, bool exists, int k, int end) {
  if (!exists) return make_uint4(0, 0, 0, 0);
  return k + 8 <= end ? *reinterpret_cast<const uint4*>(row + k) : load_guarded(row, k, end);
}

extern "C" __global__ void __launch_bounds__(32 * MAX_WARPS) KERNEL_NAME(MATMUL_PARAMETERS) {
  MATMUL_PROBLEM
  const int warp = threadIdx.x / 32;
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const int halves = p.has(GATED) ? 2 : 1;
  const int split = blockDim.x / 32 / halves;
  const int slice = warp % split, half = warp / split;
  const int first = blockIdx.x * COLUMNS;

  // ---- the first weights are on their way before the previous kernel has finished writing x
  const scalar_t* row = p.b + (i64(min(first + g, p.n - 1)) + i64(half) * p.n) * p.ldb;
  Weights weights;
  int at = slice * BATCH;
  if (at < p.k) weights.load(row, at, p.k);
  allow_next();
  wait_for_previous();

  // ---- multiply, then fetch the next batch
  const scalar_t* x = p.a + g * p.lda;
  const bool lower = g < p.m, upper = M > 8 && g + 8 < p.m;
  float sum[CHAINS][4] = {};
  while (at < p.k) {
#pragma unroll
    for (int u = 0; u < U; u++) {
      const int k = at + u * STEP + t * 8;
      const uint4 x0 = load_x(x, lower, k, p.k);
      const uint4 x1 = M > 8 ? load_x(x + 8 * p.lda, upper, k, p.k) : make_uint4(0, 0, 0, 0);
      const uint4 w = weights.v[u];
      mma_16x8x16(sum[2 * u % CHAINS], x0.x, x1.x, x0.y, x1.y, w.x, w.y);
      mma_16x8x16(sum[(2 * u + 1) % CHAINS], x0.z, x1.z, x0.w, x1.w, w.z, w.w);
    }
    at += split * BATCH;
    if (at < p.k) weights.load(row, at, p.k);
  }

  // ---- over the chains, then over the warps that shared the rows
  __shared__ float partial[MAX_WARPS][M * COLUMNS];
#pragma unroll
  for (int i = 0; i < M / 4; i++) {
    const float total = (sum[0][i] + sum[1][i]) + (sum[2][i] + sum[3][i]);
    partial[warp][(g + i / 2 * 8) * COLUMNS + 2 * t + i % 2] = total;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < M * COLUMNS; i += blockDim.x) {
    const int m = i / COLUMNS, column = first + i % COLUMNS;
    if (m >= p.m || column >= p.n) continue;
    float total[2] = {0.0f, 0.0f};
    for (int h = 0; h < halves; h++) {
      for (int s = 0; s < split; s++) total[h] += partial[h * split + s][i];
    }
    if (halves == 2) p.finish_gated(m, column, total[0], total[1]);
    else p.finish(m, column, total[0]);
  }
}
