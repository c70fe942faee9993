// The slots of all tokens, sorted by expert, and the table of groups (groups.cuh): a counting sort in one launch, without
// atomics between blocks, so that the order is always the same.
//
// A block for each expert. Every block counts all experts' slots (shared-memory atomics on integers: no order matters), so it
// knows where its own expert's rows and groups begin without asking another block. Warps take consecutive parts of the
// slots; a ballot numbers the matching lanes, so the slots of an expert stay in order.
//
//   ids      2 0 1 0 | 0 2 2 1        expert 0's block: 2 matches in the first warp's part, 1 in the second's
//   order    1 3 4   2 7   0 5 6
//
// ids [S] i32, every one in 0 ... E-1; order [S]; table of at least 1 + maxGroups entries. `rows`: of a group.
// Grid: E blocks of 1024 threads. Shared memory: 4E bytes (dynamic) and 128. Traffic: S ids for every block, from L2, twice:
// 33 MB for S = 32768 and E = 128, some 10 us where the products that follow take a millisecond.
#include "groups.cuh"
#include "../common/launch.cuh"
#include "../common/reduce.cuh"

constexpr int WARPS = 32; // groupThreads in route.ts

__device__ __forceinline__ int warp_sum_int(int x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(FULL_WARP, x, offset);
  return x;
}

extern "C" __global__ void __launch_bounds__(32 * WARPS)
    KERNEL_NAME(i32* order, i32* table, const i32* ids, int slots, int experts, int rows) {
  extern __shared__ i32 count[]; // [E]
  __shared__ i32 matches[WARPS];
  __shared__ i32 before[2];      // rows and groups of the experts before this one
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int expert = blockIdx.x;
  const int part = (slots + 32 * WARPS - 1) / (32 * WARPS) * 32; // of a warp
  const int begin = min(warp * part, slots), end = min(begin + part, slots);
  for (int e = threadIdx.x; e < experts; e += 32 * WARPS) count[e] = 0;
  __syncthreads();
  wait_for_previous();
  allow_next();

  int mine = 0;
  for (int first = begin; first < end; first += 32) {
    const int id = first + lane < end ? ids[first + lane] : -1;
    if (id >= 0) atomicAdd(&count[id], 1);
    mine += __popc(__ballot_sync(FULL_WARP, id == expert));
  }
  if (lane == 0) matches[warp] = mine;
  __syncthreads();
  if (warp == 0) {
    int earlierRows = 0, earlierGroups = 0;
    for (int e = lane; e < expert; e += 32) {
      earlierRows += count[e];
      earlierGroups += (count[e] + rows - 1) / rows;
    }
    earlierRows = warp_sum_int(earlierRows);
    earlierGroups = warp_sum_int(earlierGroups);
    if (lane == 0) {
      before[0] = earlierRows;
      before[1] = earlierGroups;
    }
  }
  __syncthreads();

  int place = before[0];
  for (int w = 0; w < warp; w++) place += matches[w];
  for (int first = begin; first < end; first += 32) {
    const bool match = first + lane < end && ids[first + lane] == expert;
    const u32 lanes = __ballot_sync(FULL_WARP, match);
    if (match) order[place + __popc(lanes & ((1u << lane) - 1))] = first + lane;
    place += __popc(lanes);
  }
  const int groups = (count[expert] + rows - 1) / rows;
  for (int g = threadIdx.x; g < groups; g += 32 * WARPS) {
    store_group(table, before[1] + g, {expert, before[0] + g * rows, min(rows, count[expert] - g * rows)});
  }
  if (expert == experts - 1 && threadIdx.x == 0) store_group_count(table, before[1] + groups);
}
