// LoRA, first half: h[t, part, r] = sum_k x[t, k] * A[r, k] with the A of row t's adapter
//
// x [T, K], A [rank, K] in the dtype; h [T, parts, max_rank] float32. Rows without an adapter and ranks past an
// adapter's own are not written: the second half does not read them.
//
// A block of eight warps shares K out: thread i takes 16 bytes at i, i + 256, ... It has RANKS ranks of ROWS rows (variants 1 and 1,
// 4 and 1, 4 and 4), A and x each once for the pairs of them; of the rows the runs with one adapter one after another.
// A sum is thread-wise in k order, then a butterfly over the warp, then the warps in order: it depends on K and on alignment
// only, so that a row's bits are the same in every batch.
// Grid: x: ranks, then rows; y: part. Traffic: A once per ROWS rows, from L2 but for the first time; x once per RANKS ranks. A decode
// step is bound by latency, a prompt by loads from L2.
#include "lora.cuh"

constexpr int WARPS = 8, THREADS = 32 * WARPS;
constexpr int RANKS = VARIANT_RANKS, ROWS = VARIANT_ROWS;

// RANKS x ROWS sums of a thread, STEPS vectors of N elements of each row at a time. Ranks and rows that there are not stand for
// the last ones, so that the loops have no branches.
template <int STEPS, int N>
__device__ __forceinline__ void shrink(float* h, const scalar_t* x, const LoraEntry* table, const i32* slots, int first,
                                       int end, int cols, int parts, int max_rank, int r0) {
  using Piece = Vec<scalar_t, N>;
  __shared__ float partial[WARPS][RANKS * ROWS];
  const int part = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  constexpr int STRIDE = THREADS * N;
  for (int row = first; row < end;) {
    const int n = rows_alike<ROWS>(slots, row, end);
    const i32 slot = slots[row];
    const LoraEntry* e = table + slot * parts + part;
    if (slot >= 0 && r0 < e->rank) {
      const int ranks = min(RANKS, e->rank - r0);
      const scalar_t* a = e->a + i64(r0) * cols;
      const scalar_t* in = x + i64(row) * cols;
#pragma unroll 1
      for (int r = 0; r < ranks; r++) {
#pragma unroll 1
        for (int k = threadIdx.x * 32 / int(sizeof(scalar_t)); k < cols; k += THREADS * 32 / int(sizeof(scalar_t)))
          prefetch(a + i64(r) * cols + k, 1);
      }
      wait_for_previous();
      float sums[RANKS][ROWS] = {};
#pragma unroll 1
      for (int from = threadIdx.x * N; from < cols; from += STEPS * STRIDE) {
        Piece w[STEPS][RANKS], v[STEPS][ROWS];
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
          const int k = from + s * STRIDE;
#pragma unroll
          for (int r = 0; r < RANKS; r++)
            if (k < cols) w[s][r] = *reinterpret_cast<const Piece*>(a + (min(r, ranks - 1) * cols + k));
#pragma unroll
          for (int i = 0; i < ROWS; i++)
            if (k < cols) v[s][i] = *reinterpret_cast<const Piece*>(in + (min(i, n - 1) * cols + k));
        }
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
          if (from + s * STRIDE >= cols) break;
#pragma unroll
          for (int j = 0; j < N; j++) { // outermost: few floats at a time
            float left[RANKS];
#pragma unroll
            for (int r = 0; r < RANKS; r++) left[r] = to_float(w[s][r][j]);
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
              const float right = to_float(v[s][i][j]);
#pragma unroll
              for (int r = 0; r < RANKS; r++) sums[r][i] = fmaf(right, left[r], sums[r][i]);
            }
          }
        }
      }
#pragma unroll
      for (int r = 0; r < RANKS; r++) {
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
          const float sum = warp_sum(sums[r][i]);
          if (lane == 0) partial[warp][r * ROWS + i] = sum;
        }
      }
      __syncthreads();
      const int r = threadIdx.x / ROWS, i = threadIdx.x % ROWS;
      if (r < ranks && i < n) {
        float sum = 0.0f;
#pragma unroll
        for (int other = 0; other < WARPS; other++) sum += partial[other][threadIdx.x];
        h[(i64(row + i) * parts + part) * max_rank + r0 + r] = sum;
      }
      if (ROWS > 1) __syncthreads();
    }
    row += n;
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 3)
    KERNEL_NAME(float* h, const scalar_t* x, const LoraEntry* table, const i32* slots, i32 rows, i32 cols, i32 parts,
                i32 max_rank, i32 wide) {
  allow_next();
  const int rank_blocks = (max_rank + RANKS - 1) / RANKS;
  const int r0 = int(blockIdx.x) % rank_blocks * RANKS;
  const int first = int(blockIdx.x) / rank_blocks * ROWS;
  const int end = first + ROWS < rows ? first + ROWS : rows;
  if constexpr (RANKS > 1) shrink<ROWS == 1 ? 2 : 1, VEC>(h, x, table, slots, first, end, cols, parts, max_rank, r0);
  else if (wide) shrink<4, VEC>(h, x, table, slots, first, end, cols, parts, max_rank, r0);
  else shrink<4, 1>(h, x, table, slots, first, end, cols, parts, max_rank, r0);
  wait_for_previous();
}
