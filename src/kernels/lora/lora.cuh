// What the kernels of low-rank adapters share. Row t of a batch has an adapter, slots[t], or none (-1). A projection's
// weight may stack several modules (q, k, v), each with its own A and B: its parts. table[slot * parts + part] says where
// those lie, so that an adapter comes and goes by a write to the table, and captured graphs stay as they are.
//
// Slots, table, A and B were complete before the pass began, which starts with a launch that overlaps nothing. So they are read
// before wait_for_previous(): while the product of the base still runs, A and B are on their way from memory to L2.
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

// Rows that a thread of a large batch takes at once: A and B are then read once for all of them that share an adapter.
inline constexpr int LORA_ROWS = 4;

// The run of rows from `row` on, below `end`, with one adapter: its length, MOST at most.
template <int MOST>
__device__ __forceinline__ int rows_alike(const i32* slots, int row, int end) {
  if constexpr (MOST == 1) return 1;
  const i32 slot = slots[row];
  int n = 1;
  while (n < MOST && row + n < end && slots[row + n] == slot) n++;
  return n;
}

// Of 16 rows from `first` on, a bit for each that is below `end`.
__device__ __forceinline__ u32 rows_of_tile(int first, int end) { return end - first >= 16 ? 0xffffu : (1u << (end - first)) - 1u; }

// The rows among `left` that have the adapter of the lowest of them. For whole warps.
__device__ __forceinline__ u32 rows_with_adapter(const i32* slots, int first, u32 left) {
  const int i = threadIdx.x % 32, lead = __ffs(int(left)) - 1;
  const bool there = i < 16 && (left >> i & 1u);
  return __ballot_sync(0xffffffffu, there && slots[first + (there ? i : lead)] == slots[first + lead]);
}

// Asks for `bytes` from p on, where the kernel is going to wait for others before it reads them.
__device__ __forceinline__ void prefetch(const scalar_t* p, int bytes) {
#if LLCUDA_TARGET >= 90
#pragma unroll 1
  for (int at = 0; at < bytes; at += 32)
    asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(reinterpret_cast<const char*>(p) + at)));
#endif
}

// One column of y: the row of B that it takes. Neighbouring threads take neighbouring rows.
struct LoraColumn {
  const scalar_t* b;
  int rank, part;
  float scale;
  bool wide;

  // Nothing (rank 0) where the adapter has nothing for the column.
  __device__ __forceinline__ LoraColumn(const LoraEntry* entries, int parts, int column, int max_rank) : rank(0) {
    for (int p = 0; p < parts; p++) {
      const LoraEntry e = entries[p];
      if (e.rank == 0 || column < e.begin || column >= e.begin + e.width) continue;
      b = e.b + i64(column - e.begin) * e.rank;
      rank = e.rank;
      part = p;
      scale = e.scale;
      wide = rank % VEC == 0 && max_rank % 4 == 0;
      prefetch(b, rank * int(sizeof(scalar_t)));
    }
  }

  // sums[i] = scale * sum_r h[i, part, r] * b[r] for n rows of one adapter. h points at the first row: [n, parts, max_rank].
  // Ascending r in one float32 sum per row, so a row's bits depend on nothing else.
  template <int ROWS>
  __device__ __forceinline__ void multiply(float (&sums)[ROWS], const float* h, int n, int parts, int max_rank) const {
#pragma unroll
    for (int i = 0; i < ROWS; i++) sums[i] = 0.0f;
    if (rank == 0) return;
    const float* left = h + part * max_rank;
    const int step = parts * max_rank;
    if (wide) {
      constexpr int AT_ONCE = 4; // loads under way
#pragma unroll 1
      for (int r = 0; r < rank; r += AT_ONCE * VEC) {
        Vec<scalar_t> w[AT_ONCE];
#pragma unroll
        for (int j = 0; j < AT_ONCE; j++)
          w[j] = load_vec(b + min(r + j * VEC, rank - VEC));
#pragma unroll
        for (int j = 0; j < AT_ONCE; j++)
          if (r + j * VEC < rank) add(sums, to_floats(w[j]), left + r + j * VEC, n, step);
      }
    } else {
#pragma unroll 1
      for (int r = 0; r < rank; r++) {
        const float w = to_float(b[r]);
#pragma unroll
        for (int i = 0; i < ROWS; i++) sums[i] = fmaf(left[min(i, n - 1) * step + r], w, sums[i]);
      }
    }
#pragma unroll
    for (int i = 0; i < ROWS; i++) sums[i] *= scale;
  }

  template <int ROWS>
  static __device__ __forceinline__ void add(float (&sums)[ROWS], Vec<float, VEC> b, const float* left, int n, int step) {
#pragma unroll
    for (int i = 0; i < ROWS; i++) { // rows that there are not stand for the last one: no branches
      const float* row = left + min(i, n - 1) * step;
#pragma unroll
      for (int q = 0; q < VEC; q += 4) {
        const Vec<float, 4> v = *reinterpret_cast<const Vec<float, 4>*>(row + q);
#pragma unroll
        for (int j = 0; j < 4; j++) sums[i] = fmaf(v[j], b[q + j], sums[i]);
      }
    }
  }
};
