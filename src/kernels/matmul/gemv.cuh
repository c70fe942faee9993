// Few rows times a weight: D[M, N] = x[M, K] · W[N, K]^T, M = 1..8. The decode path of GPUs before sm_80, of float32
// everywhere, and of rows that do not start on 16 bytes.
//
// Every weight is used M times and then never again, so the time is the weight's bytes over the memory's speed (2NK
// bytes for 16-bit; 117 MB, 27 us at 4.3 TB/s, for 14336 x 4096). What decides is how many bytes are in flight: by
// Little's law 4.3 TB/s x 0.8 us is 3.4 MB, or 26 KB for each of 132 multiprocessors.
//
//            k ->                          A block owns R = 4 rows of W. Its warps take turns along K, BATCH elements
//      +--------+--------+--------+---     at a time, so that narrow weights still fill the GPU (`split` warps, chosen
//  W   | warp 0 | warp 1 | warp 0 | ..     from N and K only). A lane holds U x R = 8 independent 16-byte loads: 4 KB
//      +--------+--------+--------+---     in flight a warp, 64 KB with 16 warps resident.
//
// x is read through L1, where the block's rows share it: M/R of the weight's traffic, at 128 bytes a clock.
// Gated: the warps of the upper half of the block do the same for rows N + n, and meet in shared memory.
//
// Sums: lane-wise in k order, then a butterfly over the warp, then the warps in order. Nothing depends on M: a row's
// result has the same bits in every batch.
// Block: 32 * split (* 2 if gated) threads. Shared memory: 8 * M * 4 floats. Arithmetic per 16-byte load: 8 conversions
// and 8 * M fused multiply-adds, which at M = 8 takes about as long as the load does.
#pragma once
#include "matmul.cuh"
#include "../common/launch.cuh"
#include "../common/reduce.cuh"

constexpr int M = VARIANT_ROWS;
constexpr int R = 4;            // weight rows of a block; gemvColumns in choose.ts
constexpr int U = 2;            // loads in a row that a lane has in flight
constexpr int STEP = 32 * VEC;  // k covered by one load of a warp
constexpr int BATCH = U * STEP; // gemvBatch in choose.ts
constexpr int MAX_WARPS = 8;  // 4 along K, twice that when gated: more would cap the registers below what M = 8 takes

// Elements [k, k + VEC) of a row, zero from `end` on.
__device__ __forceinline__ vec_t load_guarded(const scalar_t* row, int k, int end) {
  vec_t v;
#pragma unroll
  for (int i = 0; i < VEC; i++) v[i] = k + i < end ? row[k + i] : scalar_t{};
  return v;
}

struct Weights {
  vec_t v[U][R];

  // rows: the first of each of the R rows; `lane` is this lane's place in the batch at k.
  __device__ __forceinline__ void load(const scalar_t* const (&rows)[R], int k, int end, bool vector) {
    const bool whole = vector && k + BATCH <= end;
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int u = 0; u < U; u++) {
#pragma unroll
      for (int r = 0; r < R; r++) {
        const int at = k + u * STEP + lane * VEC;
        v[u][r] = whole ? load_vec_streaming(rows[r] + at) : load_guarded(rows[r], at, end);
      }
    }
  }
};

// The R columns of D from `first` on. Everything but W is read after wait_for_previous().
__device__ __forceinline__ void multiply_few(const Problem& p, int first) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int halves = p.has(GATED) ? 2 : 1;
  const int split = blockDim.x / 32 / halves;
  const int slice = warp % split, half = warp / split;

  // ---- the first weights are on their way before the previous kernel has finished writing x
  const scalar_t* rows[R];
#pragma unroll
  for (int r = 0; r < R; r++) rows[r] = p.b + (i64(min(first + r, p.n - 1)) + i64(half) * p.n) * p.ldb;
  Weights weights;
  int at = slice * BATCH;
  if (at < p.k) weights.load(rows, at, p.k, p.has(VECTOR_B));
  allow_next();
  wait_for_previous();

  // ---- multiply, then fetch the next batch
  float sum[M][R] = {};
  while (at < p.k) {
    const bool whole = p.has(VECTOR_A) && at + BATCH <= p.k;
#pragma unroll
    for (int u = 0; u < U; u++) {
      const int k = at + u * STEP + lane * VEC;
      Vec<float, VEC> w[R];
#pragma unroll
      for (int r = 0; r < R; r++) w[r] = to_floats(weights.v[u][r]);
#pragma unroll
      for (int m = 0; m < M; m++) {
        const scalar_t* row = p.a + p.row_in_a(min(m, p.m - 1)) * p.lda;
        const Vec<float, VEC> x = to_floats(whole ? load_vec(row + k) : load_guarded(row, k, p.k));
#pragma unroll
        for (int r = 0; r < R; r++) {
#pragma unroll
          for (int i = 0; i < VEC; i++) sum[m][r] = fmaf(w[r][i], x[i], sum[m][r]);
        }
      }
    }
    at += split * BATCH;
    if (at < p.k) weights.load(rows, at, p.k, p.has(VECTOR_B));
  }

  // ---- over the lanes, then over the warps that shared the rows
  __shared__ float partial[MAX_WARPS][M * R];
#pragma unroll
  for (int m = 0; m < M; m++) {
#pragma unroll
    for (int r = 0; r < R; r++) {
      const float total = warp_sum(sum[m][r]);
      if (lane == 0) partial[warp][m * R + r] = total;
    }
  }
  __syncthreads();
  const int row = threadIdx.x / R, column = first + threadIdx.x % R;
  if (row >= M || row >= p.m || column >= p.n) return;
  float total[2] = {0.0f, 0.0f};
  for (int h = 0; h < halves; h++) {
    for (int s = 0; s < split; s++) total[h] += partial[h * split + s][threadIdx.x];
  }
  if (halves == 2) p.finish_gated(row, column, total[0], total[1]);
  else p.finish(row, column, total[0]);
}
