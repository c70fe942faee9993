// Few rows times a weight in GGML blocks, W by the copy engine: D[M, N] = x[M, K] · W[N, K]^T, M = 1..16, f16 and bf16, sm_90 and
// newer, for the types that most files are made of. See ggml-few.cuh for how warps divide the work, ggml-pairs.cuh for operands.
//
// cp.async (ggml-mma.cu) costs shared memory one access for every 32 bytes of a row: with 8 rows in an instruction, four times what
// the bytes take. The copy engine writes whole boxes, a tile's rows of WIDTH bytes, and one lane asks for them. A box begins at a
// multiple of 16 bytes of W's row, and so does a row of it in shared memory. Gated, W is two planes, and a box eight rows of each.
// A barrier for each slot counts the bytes; the warp itself knows when a slot is free.
//
// Needs K a multiple of 64, rows of W a multiple of 16 bytes that start on 16, rows of x that start on 16 bytes. Block: 32 threads
// a warp, at most 512. Shared memory: ggmlBlock in ggml-layout.ts, the same arithmetic as here.
#define LLCUDA_BULK 1
#include "../matmul/bulk-copy.cuh"
#include "ggml-few.cuh"

constexpr int STAGE_BYTES = BOXES * BOX_BYTES;

struct BulkRing {
  static constexpr int STAGES = 2; // more bytes under way keep x waiting
  static constexpr int BARRIER_BYTES = 32;
  const Problem& p;
  const Walk& walk;
  const TensorMap* map;
  u8* slots;
  u32 barriers;
  Cursor ahead;
  u32 parity = 0;

  __device__ __forceinline__ BulkRing(const Problem& p_, const Walk& walk_, const TensorMap* map_, u8* slots_, u8* barriers_)
      : p(p_), walk(walk_), map(map_), slots(slots_), barriers(to_shared(barriers_)), ahead(walk_) {
    if (threadIdx.x % 32 == 0) {
#pragma unroll
      for (int s = 0; s < STAGES; s++) barrier_init(barriers + 8 * s, 1);
      barrier_init_fence();
    }
    __syncwarp();
  }
  __device__ __forceinline__ void fetch(int slot) {
    if (!ahead.valid(walk)) return;
    if (threadIdx.x % 32 == 0) {
      const u32 barrier = barriers + 8 * slot, to = to_shared(slots + slot * STAGE_BYTES);
      barrier_expect_bytes(barrier, STAGE_BYTES);
#pragma unroll
      for (int box = 0; box < BOXES; box++) {
        const int first = (ahead.span * span_bytes<Format> & ~15) + box * 128;
        load_box(to + box * BOX_BYTES, map, 0, ahead.tile() * columns_of_tile(p), first, barrier);
      }
    }
    ahead.next(walk);
  }
  __device__ __forceinline__ void wait(int slot) { barrier_wait_block(barriers + 8 * slot, parity); }
  __device__ __forceinline__ void turn() { parity ^= 1; }
  // Half a warp has every other row, which 32 bytes of each fill all banks with.
  __device__ __forceinline__ int row_of(int half) const {
    const int g = threadIdx.x % 32 / 4;
    return 8 * half + (g & 3) * 2 + (g >> 2);
  }
  __device__ __forceinline__ const u8* row(int slot, int half, int, int span) const {
    return slots + slot * STAGE_BYTES + row_of(half) * WIDTH + (span * span_bytes<Format> & 15);
  }
};

extern "C" __global__ void __launch_bounds__(512, 1)
    KERNEL_NAME(const __grid_constant__ TensorMap map, QUANT_PARAMETERS, int slices, int parts, int together) {
  QUANT_PROBLEM
  const Walk walk(p, slices, parts, together);
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32;
  u8* rings = shared;
  u8* barriers = rings + warps * BulkRing::STAGES * STAGE_BYTES;
  u8* xSums = barriers + warps * BulkRing::BARRIER_BYTES;
  float* sums = reinterpret_cast<float*>(xSums + warps * X_SUMS_BYTES);

  // ---- the first item is on its way before the previous kernel has finished writing x
  BulkRing ring(p, walk, &map, rings + warp * BulkRing::STAGES * STAGE_BYTES, barriers + warp * BulkRing::BARRIER_BYTES);
  ring.fetch(0);
  allow_next();
  wait_for_previous();
  multiply_all(p, walk, ring, reinterpret_cast<float*>(xSums + warp * X_SUMS_BYTES), sums);
}
