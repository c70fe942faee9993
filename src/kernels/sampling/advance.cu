// Advance: ends a decode step by moving everything that the next replay of its graph reads on by one token.
//
// All arrays have one entry per row b; advance.ts describes them. Slots and block tables come once for each group of layers
// that shares a table (layers that see everything, layers with a window). One block, rows strided over its threads: the
// tokens of all rows must be in the ring before the step is published, and a barrier inside one block orders that.
// The ring and `published` are host memory that the GPU writes over the bus: the writes are posted, the fence waits for
// them, about 1 us. Nothing else depends on it, since the next step's kernels read device memory only.
// Registers: 32 to 34 (ptxas), no shared memory.
#include "../common/launch.cuh"
#include "../common/types.cuh"

inline constexpr i32 NO_TOKEN = -2; // `noToken` in advance.ts
inline constexpr i32 NO_SLOT = -1;

extern "C" __global__ void __launch_bounds__(256)
    KERNEL_NAME(const i32* sampled, i32* token_ids, i32* positions, i32* context_lengths, i32* slots, u32* steps,
                const i32* block_table, i32* ring, u32* step, volatile u32* published, i32 rows, i32 max_blocks,
                i32 groups, i32 block_size, i32 ring_length, i32 ring_stride) {
  wait_for_previous();
  allow_next();
  const u32 now = *step;
  i32* delivered = ring + i64(now % u32(ring_length)) * ring_stride;

  for (int b = threadIdx.x; b < rows; b += blockDim.x) {
    const i32 context = context_lengths[b];
    if (context <= 0) {
      delivered[b] = NO_TOKEN;
#pragma unroll 1
      for (int g = 0; g < groups; g++) slots[g * rows + b] = NO_SLOT;
      continue;
    }
    const i32 token = sampled[b];
    const i32 position = positions[b] + 1;
    const i32 index = position / block_size;
    const i32* entry = block_table + i64(b) * max_blocks + index;
    bool has_room = index < max_blocks;
#pragma unroll 1
    for (int g = 0; g < groups && has_room; g++, entry += i64(rows) * max_blocks) {
      has_room = *entry >= 0;
      slots[g * rows + b] = *entry * block_size + position % block_size;
    }
    delivered[b] = token;
    token_ids[b] = token;
    positions[b] = position;
    steps[b] += 1;
    // Without a block the next token has nowhere to go: the row stops instead of writing into another's memory.
    context_lengths[b] = has_room ? context + 1 : 0;
#pragma unroll 1
    for (int g = 0; g < groups && !has_room; g++) slots[g * rows + b] = NO_SLOT;
  }

  // Each thread's ring entries are visible to the host before the barrier, and the counter is stored after it.
  __threadfence_system();
  __syncthreads();
  if (threadIdx.x == 0) {
    *step = now + 1;
    *published = now + 1;
  }
}
