// The second half for prompts: s * h · B^T of 16 rows on the tensor cores, f16 and bf16, sm_80 and newer.
//
// h is float32 and stays so: tf32 takes its upper 11 bits, a second mma the next 11, and values of 16 bits are exact in tf32. B
// goes from memory to registers: a lane takes the 16 bytes of a row that lie together, r 8t .. 8t + 7, for the r of four mma
// (g = lane / 4, t = lane % 4). The 8 columns of an mma are not neighbours: of 16 columns lane t gets the sums of 4t .. 4t + 3, so
// that rows of y are read and written by whole sectors:
//
//     column of y:   | 0 1 | 2 3 | 4 5 | 6 7 | ...        mma 0 has 0 1, 4 5, 8 9, 12 13,
//     lane t:        |    0      |     1     | ...        mma 1 has 2 3, 6 7, ...
#pragma once
#include "lora.cuh"
#include "../matmul/tensor-core.cuh"

inline constexpr int TILE_ROWS = 16, GROUP = 16; // columns of a group

__device__ __forceinline__ void mma_tf32(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Numbers r .. r + 7 of a row of `rank`; zeros past its end.
template <typename T>
__device__ __forceinline__ Vec<float, 8> eight(const T* row, int r, int rank, bool wide) {
  Vec<float, 8> v = {};
  if (wide) {
    if (r < rank) v = to_floats(*reinterpret_cast<const Vec<T, 8>*>(row + r));
  } else {
#pragma unroll
    for (int i = 0; i < 8; i++)
      if (r + i < rank) v[i] = to_float(row[r + i]);
  }
  return v;
}

// sums[q][j][i]: of column 16q + 4t + 2j + i % 2 behind `first`, of row g + i / 2 * 8 of h: right for the rows in `mine`, the
// adapter's, of which the lowest stands for the others. Columns from `end` on, and those that the adapter leaves alone, get 0.
// Ascending r: an order that depends on nothing.
template <int GROUPS>
__device__ __forceinline__ void adapter_sums(float (&sums)[GROUPS][2][4], const LoraEntry* entries, int parts, int first,
                                             int end, const float* h, u32 mine, int max_rank) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int q = 0; q < GROUPS; q++) {
#pragma unroll
    for (int j = 0; j < 2; j++) {
#pragma unroll
      for (int i = 0; i < 4; i++) sums[q][j][i] = 0.0f;
    }
  }
#pragma unroll 1
  for (int part = 0; part < parts; part++) {
    const LoraEntry e = entries[part];
    if (e.rank == 0 || e.begin >= first + GROUP * GROUPS || e.begin + e.width <= first) continue;
    const bool wide = e.rank % 8 == 0, wideLeft = wide && max_rank % 8 == 0;
    const int lead = __ffs(int(mine)) - 1;
    const float* low = h + ((mine >> g & 1u ? g : lead) * parts + part) * max_rank;
    const float* high = h + ((mine >> g & 256u ? g + 8 : lead) * parts + part) * max_rank;
#pragma unroll 1
    for (int r = 8 * t; r - 8 * t < e.rank; r += 32) {
      u32 left[4][4], rest[4][4]; // of h: the upper bits, and what they leave
      const Vec<float, 8> rowLow = eight(low, r, e.rank, wideLeft), rowHigh = eight(high, r, e.rank, wideLeft);
#pragma unroll
      for (int k = 0; k < 4; k++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const float value = e.scale * (i % 2 ? rowHigh : rowLow)[2 * k + i / 2];
          left[k][i] = __float_as_uint(value) & 0xffffe000u;
          rest[k][i] = __float_as_uint(value - __uint_as_float(left[k][i])) & 0xffffe000u;
        }
      }
#pragma unroll
      for (int q = 0; q < GROUPS; q++) {
#pragma unroll
        for (int j = 0; j < 2; j++) {
          const int column = first + GROUP * q + g / 2 * 4 + 2 * j + g % 2, own = column - e.begin;
          const bool has = column < end && own >= 0 && own < e.width;
          const Vec<float, 8> b = eight(e.b + i64(own) * e.rank, has ? r : e.rank, e.rank, wide);
#pragma unroll
          for (int k = 0; k < 4; k++) {
            const u32 b0 = __float_as_uint(b[2 * k]), b1 = __float_as_uint(b[2 * k + 1]);
            mma_tf32(sums[q][j], left[k], b0, b1);
            mma_tf32(sums[q][j], rest[k], b0, b1);
          }
        }
      }
    }
  }
}
