// Top-k: the k largest of each row, largest first, lower index first among equals, NaN before everything
//
// Elements are pairs (ordered value, inverted index) in 64 bits: all different, so "the k largest" is one set and its
// order is one order, whatever the grid does.
//
// Select: a block narrows an interval [low, low + 2048 * 2^shift) of pairs around the k-th largest. Each round counts
//   the interval's pairs in 2048 bins, walks the bins from the top to the one that holds the k-th, and goes on with that
//   bin, until a bin is taken whole. Bounds start at the row's own least and largest pair, so that three or four rounds
//   do for any data (six at worst, 64 bits at 11 a round); with values of one exponent a fixed digit would waste its first.
// Gather: pairs not below the bound, k of them, into shared memory, in any order.
// Sort: bitonic, on the next power of two; then values are copied from x by index, bit for bit.
//
// Grid: (rows, parts). A long row with few neighbours is split: each part writes its k best pairs to candidates
// [rows, parts, k] (0: none), and a launch with merge = 1 selects among those.
// Traffic: the row once per round, after the first from L1 or L2: a part of 8192 elements stays in L1.
// One row of 128k bf16, k = 50: 16 blocks, then a merge; 40 us on an H200 (bench/kernels.ts), bound by its barriers.
// Registers: 27 to 32 (ptxas); 16.4 KB of shared memory.
#include "../common/launch.cuh"
#include "../common/ordered-key.cuh"

inline constexpr int BIN_BITS = 11;
inline constexpr int BINS = 1 << BIN_BITS;
inline constexpr int LIMIT = 1024; // topkLimit in topk.ts

struct Bin {
  int index;   // that holds the wanted pair
  u32 above;   // pairs in the bins above it
};

// The bin in which a walk from the top reaches `wanted` pairs; there are at least that many. Every thread gets it.
__device__ __forceinline__ Bin find_bin(const u32* counts, u32 wanted) {
  __shared__ u32 group_counts[32];
  __shared__ Bin found;
  // 32 groups of 64 bins, group 0 the highest; a warp sums a group with two coalesced reads a lane.
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  constexpr int GROUP = BINS / 32;
  for (int group = warp; group < 32; group += warps) {
    const int top = BINS - 1 - group * GROUP;
    u32 sum = counts[top - lane] + counts[top - 32 - lane];
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    if (lane == 0) group_counts[group] = sum;
  }
  __syncthreads();
  if (warp == 0) {
    // The first group in which the running count reaches `wanted`, then the first bin within it.
    u32 running = group_counts[lane];
#pragma unroll
    for (int offset = 1; offset < 32; offset *= 2) {
      const u32 below = __shfl_up_sync(0xffffffffu, running, offset);
      if (lane >= offset) running += below;
    }
    const int group = __ffs(__ballot_sync(0xffffffffu, running >= wanted)) - 1;
    u32 above = __shfl_sync(0xffffffffu, running - group_counts[lane], group);
    int top = BINS - 1 - group * GROUP;
    for (int half = 0; half < 2; half++, top -= 32) {
      const u32 count = counts[top - lane];
      running = count;
#pragma unroll
      for (int offset = 1; offset < 32; offset *= 2) {
        const u32 below = __shfl_up_sync(0xffffffffu, running, offset);
        if (lane >= offset) running += below;
      }
      const u32 reached = __ballot_sync(0xffffffffu, above + running >= wanted);
      if (reached) {
        if (lane == __ffs(reached) - 1) found = {top - lane, above + running - count};
        break;
      }
      above += __shfl_sync(0xffffffffu, running, 31);
    }
  }
  __syncthreads();
  return found;
}

extern "C" __global__ void __launch_bounds__(512)
    KERNEL_NAME(scalar_t* values, void* indices, u64* candidates, const scalar_t* x, i64 x_stride, i32 cols, i32 k,
                i32 part_size, i32 merge, i32 parts, i32 wide_indices) {
  __shared__ u32 counts[BINS];
  __shared__ u64 best[LIMIT];
  __shared__ int gathered;
  wait_for_previous();
  allow_next();

  const i64 row = blockIdx.x;
  const scalar_t* in = x + row * x_stride;
  const u64* chosen_before = candidates + row * parts * k;
  const int begin = merge ? 0 : blockIdx.y * part_size;
  const int count = merge ? parts * k : min(part_size, cols - begin);
  auto pair_at = [&](int i) {
    return merge ? chosen_before[i] : ordered_pair(to_float(in[begin + i]), u32(begin + i));
  };

  // ---- select: the least pair that belongs to the k largest ----
  u64 bound = 1; // everything but "nothing"
  if (count > k) {
    u64 largest = 0, inverted_least = 0;
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
      const u64 pair = pair_at(i);
      if (pair == 0) continue;
      largest = pair > largest ? pair : largest;
      inverted_least = ~pair > inverted_least ? ~pair : inverted_least;
    }
    largest = block_max_u64(largest);
    u64 low = ~block_max_u64(inverted_least);
    u64 span = largest - low;
    u32 wanted = k;
    // Rounds end at the latest when a bin is one pair wide. `merge` may hold fewer than k pairs in all only when the row
    // has fewer than k elements, which the caller excludes.
    while (true) {
      const int shift = max(0, 64 - __clzll(span) - BIN_BITS);
      __syncthreads(); // the bins are no longer read
      for (int i = threadIdx.x; i < BINS; i += blockDim.x) counts[i] = 0;
      __syncthreads();
      for (int i = threadIdx.x; i < count; i += blockDim.x) {
        const u64 pair = pair_at(i);
        if (pair >= low && pair - low <= span) atomicAdd(&counts[(pair - low) >> shift], 1u);
      }
      __syncthreads();
      const Bin bin = find_bin(counts, wanted);
      low += u64(bin.index) << shift;
      wanted -= bin.above;
      if (shift == 0 || counts[bin.index] == wanted) break;
      span = (1ull << shift) - 1;
    }
    bound = low;
  }

  // ---- gather ----
  int size = 1; // of the sort: a power of two
  while (size < k) size *= 2;
  for (int i = threadIdx.x; i < size; i += blockDim.x) best[i] = 0;
  if (threadIdx.x == 0) gathered = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    const u64 pair = pair_at(i);
    if (pair >= bound) best[atomicAdd(&gathered, 1)] = pair;
  }

  // ---- sort, descending ----
  for (int run = 2; run <= size; run *= 2) {
    for (int distance = run / 2; distance > 0; distance /= 2) {
      __syncthreads();
      for (int i = threadIdx.x; i < size; i += blockDim.x) {
        const int other = i ^ distance;
        if (other < i) continue; // the pair is the other's to compare, and may be changing
        const u64 a = best[i], b = best[other];
        if ((i & run) == 0 ? a < b : a > b) {
          best[i] = b;
          best[other] = a;
        }
      }
    }
  }
  __syncthreads();

  // ---- write ----
  if (candidates && !merge) {
    u64* mine = candidates + (row * parts + blockIdx.y) * k;
    for (int i = threadIdx.x; i < k; i += blockDim.x) mine[i] = best[i];
    return;
  }
  for (int i = threadIdx.x; i < k; i += blockDim.x) {
    const u32 index = pair_index(best[i]);
    values[row * k + i] = in[index];
    if (wide_indices) {
      static_cast<i64*>(indices)[row * k + i] = index;
    } else {
      static_cast<i32*>(indices)[row * k + i] = i32(index);
    }
  }
}
