// What the kernels of low-rank adapters share. Row t of a batch has an adapter, slots[t], or none (-1). A projection's
// weight may stack several modules (q, k, v), each with its own A and B: its parts. table[slot * parts + part] says where
// those lie, so that an adapter comes and goes by a write to the table, and captured graphs stay as they are.
#pragma once
#include "../common/launch.cuh"
#include "../common/reduce.cuh"

struct LoraEntry {
  const scalar_t* a; // [rank, K]
  const scalar_t* b; // [width, rank]
  i32 rank;          // 0: this adapter leaves the part alone
  float scale;
  i32 begin, width; // the part's columns of y
};

// Rows that one block takes at most: A and B are then read once for all of them that share an adapter.
inline constexpr int LORA_ROWS = 4;
inline constexpr int LORA_THREADS = 128;

// The run of rows from `row` on, below `end`, with one adapter: its length, LORA_ROWS at most.
__device__ __forceinline__ int rows_alike(const i32* slots, int row, int end) {
  const i32 slot = slots[row];
  int n = 1;
  while (n < LORA_ROWS && row + n < end && slots[row + n] == slot) n++;
  return n;
}

// sums[i] = scale * sum_r h[i, part, r] * b[column, r] for n rows of one adapter; 0 where it has nothing for the column.
// h points at the first row: [n, parts, max_rank]. Ascending r in one float32 sum per row, so a row's bits depend on
// nothing else. B is read by 16 bytes where its rows allow it: neighbouring threads read neighbouring rows.
__device__ __forceinline__ void lora_columns(float (&sums)[LORA_ROWS], const LoraEntry* entries, int parts, int column,
                                             const float* h, int n, int max_rank) {
#pragma unroll
  for (int i = 0; i < LORA_ROWS; i++) sums[i] = 0.0f;
  for (int part = 0; part < parts; part++) {
    const LoraEntry e = entries[part];
    if (e.rank == 0 || column < e.begin || column >= e.begin + e.width) continue;
    const scalar_t* b = e.b + i64(column - e.begin) * e.rank;
    const float* left = h + part * max_rank;
    const int step = parts * max_rank;
    if (e.rank % VEC == 0) {
      for (int r = 0; r < e.rank; r += VEC) {
        const Vec<float, VEC> w = to_floats(load_vec(b + r));
#pragma unroll
        for (int j = 0; j < VEC; j++) {
#pragma unroll
          for (int i = 0; i < LORA_ROWS; i++)
            if (i < n) sums[i] = fmaf(left[i * step + r + j], w[j], sums[i]);
        }
      }
    } else {
      for (int r = 0; r < e.rank; r++) {
        const float w = to_float(b[r]);
#pragma unroll
        for (int i = 0; i < LORA_ROWS; i++)
          if (i < n) sums[i] = fmaf(left[i * step + r], w, sums[i]);
      }
    }
#pragma unroll
    for (int i = 0; i < LORA_ROWS; i++) sums[i] *= e.scale;
    return;
  }
}
