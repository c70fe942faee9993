// What the two mma.sync kernels for 17 and more rows share: D[M, N] = x[M, K] · W[N, K]^T, f16 and bf16, sm_80 and newer.
//
//               128 rows of W                 A block takes 64 rows of x and 128 of W; each of its 16 warps 16 rows of W, all of
//            +----+----+-- ... --+----+       x and one of two slices of K (every other 64 elements), so that a value of W is
//   64 rows  | w0 | w1 |         | w7 |       decoded once a block, in registers, where the multiplication wants it (W is the
//   of x     | w8 | w9 |         |w15 |       left operand: 16 rows of it, 8 of x). x comes from shared memory, where both
//            +----+----+-- ... --+----+       lie as they are stored (gemm-rings.cuh).
//
// Four warps a scheduler hide what decoding waits for; with 32 rows of W a warp, and two, both kernels took almost twice the time.
// Traffic: W once for 64 rows of x (from L2 for the next 64, whose blocks run beside), x N/128 times from L2.
// Where N has too few tiles for the GPU, K is split among blocks and ../matmul/combine.cu ends the product.
// Sums: over K in order within a slice, then slices, then splits. They depend on N, K and the device, not on M nor on other rows:
// a row's result has the same bits in every batch that this kernel takes.
// Needs rows of x that start on 16 bytes.
#pragma once
#include "gemm-rings.cuh"

constexpr int WARP_ROWS = 16, ROW_WARPS = BN / WARP_ROWS, THREADS = 32 * ROW_WARPS * SLICES;
constexpr int NB = BM / 8;

// The lanes that read together, of two rows or four, meet different banks in every format's order.
__device__ __forceinline__ int x_swizzle(int row) { return (row & 1) * 5 ^ (row & 2); }
struct MmaLayout {
  // Of Rings.
  static constexpr int THREADS = ::THREADS;
  static __device__ __forceinline__ int swizzle(int row) { return x_swizzle(row); }
};

// The pairs of x that belong to the pairs of lane t in a chunk, for 8 rows that start at `rows`.
template <class F>
__device__ __forceinline__ void load_x(u32 (&x)[8], const u8* rows) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const u8* row = rows + g * ROW_BYTES;
  if constexpr (F::WIDE) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int unit = F::offset(t, 2 * i) / 8;
      const uint4 v = *reinterpret_cast<const uint4*>(row + 16 * (unit ^ x_swizzle(g)));
      x[4 * i] = v.x;
      x[4 * i + 1] = v.y;
      x[4 * i + 2] = v.z;
      x[4 * i + 3] = v.w;
    }
  } else {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int offset = F::offset(t, i);
      const uint2 v = *reinterpret_cast<const uint2*>(row + 16 * (offset / 8 ^ x_swizzle(g)) + offset % 8 * 2);
      x[2 * i] = v.x;
      x[2 * i + 1] = v.y;
    }
  }
}

// total += scale * (a chunk of W times x), the chunk in F's order. w: [row half][pairs], scale: [row half]. SCALED: w
// are levels, whose sums are scaled; otherwise values, which are summed where they belong.
// 32 rows of x at a time without a branch: their loads, multiplications and sums overlap.
template <class F, bool SCALED>
__device__ __forceinline__ void multiply(float (&total)[NB][4], const u32 (&w)[2][8], const float (&scale)[2],
                                         const u8* xChunk, int halves) {
#pragma unroll
  for (int half = 0; half < NB / 4; half++) {
    if (half >= halves) break;
#pragma unroll
    for (int b = 4 * half; b < 4 * half + 4; b++) {
      u32 x[8];
      load_x<F>(x, xChunk + 8 * b * ROW_BYTES);
      float sum[4] = {};
#pragma unroll
      for (int i = 0; i < 4; i++) {
        mma_16x8x16(SCALED ? sum : total[b], w[0][2 * i], w[1][2 * i], w[0][2 * i + 1], w[1][2 * i + 1], x[2 * i], x[2 * i + 1]);
      }
      if constexpr (SCALED) {
#pragma unroll
        for (int e = 0; e < 4; e++) total[b][e] = fmaf(scale[e / 2], sum[e], total[b][e]);
      }
    }
  }
}

// The stages are free and take the sums, [slice][row of x][row of W]; then D, or this split's part of it.
__device__ __forceinline__ void finish(const Problem& p, const Place& place, const Column& columns,
                                       const float (&total)[NB][4], int slice, int warpColumn, float* sums,
                                       float* parts, int splits) {
  wait_copies<0>();
  __syncthreads();
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  float* mine = sums + slice * BM * SUMS_ROW + warpColumn + g;
#pragma unroll
  for (int b = 0; b < NB; b++) {
    if (b >= 4 * place.halves) break;
#pragma unroll
    for (int e = 0; e < 4; e++) mine[(8 * b + 2 * t + e % 2) * SUMS_ROW + e / 2 * 8] = total[b][e];
  }
  __syncthreads();
  if (splits == 1) {
    finish_tile<BM, BN, WN, THREADS, SUMS_ROW, SLICES>(p, columns, place.row0, sums);
    return;
  }
  store_part<THREADS, BM, SLICES>(p, place, columns, place.row0, sums, parts);
}
