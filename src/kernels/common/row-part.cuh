// A block's part of a long row, 16 elements a thread, all loaded before any is used: the loads overlap, and 256 threads
// have 16 to 32 KB on their way from memory.
#pragma once
#include "types.cuh"

inline constexpr int PART_THREADS = 256;
inline constexpr int PART_VALUES = 16;
inline constexpr int PART_SIZE = PART_THREADS * PART_VALUES;

struct RowPart {
  scalar_t values[PART_VALUES];
  int begin, end;
  bool wide;

  // Elements begin ... end-1 of a row, at most PART_SIZE, begin a multiple of it. Rows need no alignment beyond their
  // element's; 16-byte loads are used where the address allows them.
  __device__ __forceinline__ RowPart(const scalar_t* row, int from, int to) : begin(from), end(to) {
    wide = (reinterpret_cast<u64>(row) & 15) == 0;
#pragma unroll
    for (int j = 0; j < PART_VALUES; j += VEC) {
      if (wide && index(j) + VEC <= end) {
        const Vec<scalar_t> chunk = load_vec(row + index(j));
#pragma unroll
        for (int i = 0; i < VEC; i++) values[j + i] = chunk[i];
      } else {
#pragma unroll
        for (int i = 0; i < VEC; i++)
          if (index(j + i) < end) values[j + i] = row[index(j + i)];
      }
    }
  }

  // Where the thread's element i lies in the row; at or past `end` there is none.
  __device__ __forceinline__ int index(int i) const {
    return begin + (wide ? ((i / VEC) * PART_THREADS + int(threadIdx.x)) * VEC + i % VEC
                         : i * PART_THREADS + int(threadIdx.x));
  }
};
