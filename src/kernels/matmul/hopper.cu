// Matrix product for Hopper: D[M, N] = alpha * A[M, K] · B[N, K]^T (+ bias[N], + residual[M, N]), f16 or bf16, f32 sums.
//
// A and B are row-major with K innermost (activations and the weight of a Linear layer), 16-byte aligned, their rows a
// multiple of 16 bytes apart. M, N and K are free: what the copy engine reads past an edge is zero, and stores are cut.
// With `gate`, B holds two such matrices, one after the other, and D = activation(A·Bgate^T) * (A·Bup^T).
//
// How it works. The tensor cores of an SM do 4096 bf16 operations a clock: a warp that also computed addresses, loaded
// and waited could not feed them. So the block splits its work by warpgroup (four warps):
//
//   producer     one thread. Asks the copy engine (TMA) for the next 64 columns (K) of the A and B tiles, into a ring of
//                STAGES buffers; runs as far ahead as the ring allows, also into the next tile.
//   consumers    one warpgroup per 64 rows of D. Wait for a buffer, multiply it with four wgmma m64nNk16 straight from
//                shared memory into registers, hand the buffer back one step later, and store D at the end of a tile.
//
//        full[s]:  1 arrival (producer) + the bytes of both boxes     producer -> consumers     "buffer s is filled"
//        empty[s]: 1 arrival of each consumer warp                    consumers -> producer     "buffer s was read"
//
// One step of the ring on K, with two steps of wgmma in flight:
//
//        copy engine   | fill 3    | fill 0      | fill 1      | ...
//        tensor cores  | 0 0 0 0   | 1 1 1 1     | 2 2 2 2     | ...
//        consumer      | issue 0   | issue 1, wait for 0, free 0 | issue 2, wait for 1, free 1 | ...
//
// Neither barrier orders ordinary memory: what goes round is read and written by the copy engine and by wgmma. So arrivals and
// waits are those of the block's scope. At cluster scope they are a fence of the GPU and a loss of all of L1, half a microsecond
// a step, whatever its size.
//
// Tiles of D are dealt to a persistent grid (one block per SM) in groups of `group_rows` tile rows, walked column by
// column, so that the blocks at work at one time share rows of A and of B in the L2 cache. The two blocks of a cluster
// take tiles one above the other: they need the same B, so each fetches half of it and the copy engine delivers it to
// both. That halves the L2 reads of B.
//
// Few rows (up to 128) are bound by bytes: the weight's, and what one SM can take from L2, some 64 bytes a clock. Where a weight is too
// narrow for enough tiles, K is cut into `split` parts, and the blocks of a cluster take one each of the same tile:
//
//     part 0   k 0 ..             sums --> shared memory   |
//     part 1   k K/split ..       sums --> shared memory   |  every block adds every split-th row of all, in order, and finishes it
//     ...                                             |
//
// The sums pass from block to block (distributed shared memory), where a workspace would be written and read, and another kernel
// launched. Under an overlapping launch the weight's part of the ring is asked for before the kernel before has ended.
//
// Floors, 4096^3 bf16 on an H200 (132 SMs): 137.4 GFLOP at the 690 TFLOP/s that cuBLASLt sustains are 199 us; the device
// memory traffic is 101 MB, 24 us: bound by the tensor cores. What must keep up is L2: a 128 x 256 tile step is
// 2 * 128 * 256 * 64 / 4096 = 1024 clocks of wgmma and fetches 48 KB (32 KB with the B of a pair shared), so 47 (31) bytes
// per clock and SM, close to what L2 delivers without the sharing. Shared memory reads: 10 KB per wgmma m64n256k16 of 128
// clocks, 80 of 128 bytes a clock. Weights of few rows (M <= 64) are bound by device memory instead: N * K * 2 bytes.
//
// Tiles, with ptxas' registers per thread at entry (nothing spills; with two consumers setmaxnreg then moves them: 224 for
// a consumer, 56 for the producer); one block an SM:
//   m128n256  2 consumers,  4 stages of 48 KB, cluster of 2    128 sums a thread, 168 registers; not split
//   m128n128  2 consumers,  6 stages of 32 KB                   64 sums a thread, 168 registers
//   m128n64   2 consumers,  8 stages of 24 KB                   32 sums a thread, 168 registers
//   m64n128   1 consumer,   8 stages of 24 KB                   64 sums a thread, 128 registers
//   m64n64    1 consumer,  12 stages of 16 KB                   32 sums a thread, 116 registers
// Every tile adds the products of K in the same order, so that the choice among them does not change a result; the parts do,
// which therefore depend on N and K alone (hopperSplit).
//
// Sources: PTX ISA, sections on wgmma, cp.async.bulk.tensor and mbarrier.
#include "hopper-parts.cuh"

// ---- producer ------------------------------------------------------------------------------------------------------

struct Ring {
  int stage = 0;
  u32 parity = 0;
  __device__ __forceinline__ void advance() {
    if (++stage == STAGES) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// The steps of K of one part: DEPTH columns each. They depend on K and the number of parts alone.
struct Steps {
  int first, end;
  __device__ __forceinline__ Steps(const Problem& p, int part) {
    const int steps = (p.k + DEPTH - 1) / DEPTH;
    first = steps * part / p.split;
    end = steps * (part + 1) / p.split;
  }
};

// Asks for the boxes of one tile. What is the same in every step is computed once: one thread asks for them all, and where tiles
// are small it has less than 300 clocks for a step.
struct Loader {
  const TensorMap* map_a;
  const TensorMap* map_b;
  u32 stages, full, rank;  // rank: in the cluster that shares B
  int row, boxes, box_rows;
  int col, second_half;    // first rows of B's halves; no second one where a box brings both
  u32 bytes;

  __device__ __forceinline__ Loader(const Problem& p, const TensorMap* map_a, const TensorMap* map_b, u32 stages, u32 full,
                                    u32 rank, const Place& at)
      : map_a(map_a), map_b(map_b), stages(stages), full(full), rank(rank), row(at.row), box_rows(p.box_rows), col(at.col) {
    // Boxes of A that have rows of it. What lies behind them in the buffer is multiplied to sums that are never stored.
    boxes = max(1, (min(ROWS, p.m - at.row) + box_rows - 1) / box_rows);
    bytes = boxes * box_rows * DEPTH * 2 + 2 * HALF_B_BYTES;
    // Without a gate the second half of the B tile follows the first; with one it is the same columns of the up matrix.
    second_half = p.gate ? at.col + p.n : CLUSTER == 2 ? at.col + COLS / 2 : -1;
  }

  __device__ __forceinline__ void load_a(int step, int stage) const {
    const u32 a = stages + stage * STAGE_BYTES, ready = full + stage * 8;
    load_box(a, map_a, row, step * DEPTH, ready);
    for (int box = 1; box < boxes; box++)
      load_box(a + box * box_rows * DEPTH * 2, map_a, row + box * box_rows, step * DEPTH, ready);
  }

  __device__ __forceinline__ void load_b(int step, int stage) const {
    const u32 b = stages + stage * STAGE_BYTES + A_BYTES, ready = full + stage * 8;
    const int k = step * DEPTH;
    barrier_expect_bytes(ready, bytes);
    if constexpr (CLUSTER == 2) {
      load_box_multicast(b + rank * HALF_B_BYTES, map_b, rank == 0 ? col : second_half, k, ready, 3);
    } else {
      load_box(b, map_b, col, k, ready);
      if (second_half >= 0) load_box(b + HALF_B_BYTES, map_b, second_half, k, ready);
    }
  }
};

__device__ __forceinline__ void produce(const Problem& p, const TensorMap* map_a, const TensorMap* map_b, u32 stages, u32 full,
                                        u32 empty, u32 rank, Steps steps, int first, int step, int width) {
  int tiles = p.row_tiles * p.column_tiles;
  Ring ring;
  int k = steps.first;
  for (int index = first; index < tiles; index += step, k = steps.first) {
    const Loader loader(p, map_a, map_b, stages, full, rank, place_of(p, index, rank, width));
    if (index == first) {
      // The ring is empty: the weight's part of what fills it does not depend on the kernel before.
      const int early = min(STAGES, steps.end - k);
      for (int s = 0; s < early; s++) loader.load_b(k + s, s);
      wait_for_previous();
      for (int s = 0; s < early; s++) loader.load_a(k + s, s);
      ring.stage = early % STAGES;
      ring.parity = early / STAGES;
      k += early;
    }
    for (; k < steps.end; k++, ring.advance()) {
      barrier_wait_block(empty + ring.stage * 8, ring.parity ^ 1);
      loader.load_b(k, ring.stage);
      loader.load_a(k, ring.stage);
    }
  }
}

// ---- consumers -----------------------------------------------------------------------------------------------------

// Under a cluster both producers write to this buffer, so both wait for its readers in both blocks. What an arrival says is that
// wgmma has read: nothing was written that others are to see, so it needs no fence, and a fence for each step costs more than the step.
__device__ __forceinline__ void release(u32 empty, int stage, int lane) {
  if constexpr (CLUSTER == 1) {
    if (lane == 0) barrier_arrive(empty + stage * 8);
  } else if (lane < CLUSTER) {
    asm volatile(
        "{\n"
        ".reg .b32 remote;\n"
        "mapa.shared::cluster.u32 remote, %0, %1;\n"
        "mbarrier.arrive.shared::cluster.b64 _, [remote];\n"
        "}" ::"r"(empty + stage * 8), "r"(lane) : "memory");
  }
}

struct Consumer {
  const Problem& p;
  const TensorMap* map_d;
  u32 stages, staging, full, empty;
  u32 rank; // in the cluster that shares B
  int part; // of K
};

__device__ __forceinline__ void consume(const Consumer& c, int first, int step, int width) {
  const Problem& p = c.p;
  const int consumer = threadIdx.x / 128 - 1, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
  u32 my_staging = c.staging + (consumer * 4 + warp) * 2 * STAGING_BOX_BYTES;
  Ring ring;
  int boxes = 0;
  int tiles = p.row_tiles * p.column_tiles;
  const Steps steps(p, c.part);
  for (int index = first; index < tiles; index += step) {
    Place at = place_of(p, index, c.rank, width);
    float sums[COLS / 2];
    int previous = -1;
    for (int k = steps.first; k < steps.end; k++, ring.advance()) {
      barrier_wait_block(c.full + ring.stage * 8, ring.parity);
      u64 a = tile_descriptor(c.stages + ring.stage * STAGE_BYTES + consumer * 64 * DEPTH * 2);
      u64 b = tile_descriptor(c.stages + ring.stage * STAGE_BYTES + A_BYTES);
      pin_registers(sums);
      wgmma_fence();
#pragma unroll
      for (int i = 0; i < DEPTH / 16; i++) {
        wgmma<scalar_t>(sums, a + i * kDescriptorStepK16, b + i * kDescriptorStepK16, k > steps.first || i > 0);
      }
      wgmma_commit();
      pin_registers(sums);
      // The step before is finished when at most this one is unfinished; its buffer can be filled again.
      wgmma_wait<1>();
      if (previous >= 0) release(c.empty, previous, lane);
      previous = ring.stage;
    }
    wgmma_wait<0>();
    pin_registers(sums);

    if constexpr (PARTS) {
      if (p.split > 1) {
        add_parts(p, c.stages, c.part, sums, at, width);
        return; // there is one tile for each cluster
      }
    }
    release(c.empty, previous, lane);

    if (p.alpha != 1.0f) {
#pragma unroll
      for (int i = 0; i < COLS / 2; i++) sums[i] *= p.alpha;
    }
    if (p.bias) {
      add_bias<COLS / 4>(p, p.bias, sums, at.col, lane);
      if (p.gate) add_bias<COLS / 4>(p, p.bias + p.n, sums + COLS / 4, at.col, lane);
      else add_bias<COLS / 4>(p, p.bias, sums + COLS / 4, at.col + COLS / 2, lane);
    }
    if (p.gate) {
#pragma unroll
      for (int i = 0; i < COLS / 4; i++) sums[i] = activation(p.gate, sums[i]) * sums[i + COLS / 4];
    }
    store_tile(p, c.map_d, sums, my_staging, boxes, at.row + consumer * 64 + warp * 16, at.col, width, lane);
  }
  if (lane == 0) store_wait_all();
}

// ---- the kernel ----------------------------------------------------------------------------------------------------

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    KERNEL_NAME(const __grid_constant__ TensorMap map_a, const __grid_constant__ TensorMap map_b,
                const __grid_constant__ TensorMap map_d, void* out, const scalar_t* bias, const void* residual, i64 ldd,
                i64 ldr, i32 m, i32 n, i32 k, float alpha, i32 group_rows, i32 gate, i32 store, i32 split,
                i32 box_rows) {
  extern __shared__ unsigned char raw[];
  u32 stages = (shared_address(raw) + 1023) & ~1023u;
  u32 staging = stages + STAGES * STAGE_BYTES;
  u32 full = staging + STAGING_BYTES;
  u32 empty = full + STAGES * 8;

  int width = gate ? COLS / 2 : COLS;
  Problem p = {out, bias, residual, ldd, ldr, m, n, k, alpha, group_rows, gate, store, split, box_rows, 0, 0};
  p.column_tiles = (n + width - 1) / width;
  p.row_tiles = (m + CLUSTER * ROWS - 1) / (CLUSTER * ROWS);
  // The blocks of a cluster share B, or have a part of K each.
  const int blocks = PARTS ? split : CLUSTER;
  const u32 in_cluster = blocks > 1 ? cluster_rank() : 0;
  const u32 rank = PARTS ? 0 : in_cluster;
  const int part = PARTS ? in_cluster : 0;
  int first = blockIdx.x / blocks;
  int step = gridDim.x / blocks;

  allow_next();
  if (threadIdx.x == 0) {
    prefetch_map(&map_a);
    prefetch_map(&map_b);
    for (int s = 0; s < STAGES; s++) {
      barrier_init(full + s * 8, 1);
      barrier_init(empty + s * 8, CONSUMERS * 4 * CLUSTER);
    }
    barrier_init_fence();
  }
  // Parts of K meet later; a block that shares B must have its barriers before the other delivers.
  if constexpr (CLUSTER > 1) cluster_sync();
  else __syncthreads();

  // 65,536 registers: 384 threads enter with 168 each; the producer gives up what the consumers' sums need.
  if (threadIdx.x < 128) {
    if constexpr (CONSUMERS == 2) registers_shrink<56>();
    if (threadIdx.x == 0) {
      produce(p, &map_a, &map_b, stages, full, empty, rank, Steps(p, part), first, step, width);
    }
    if (PARTS && split > 1) {
      __syncwarp();
      cluster_sync();  // of add_parts
    }
  } else {
    if constexpr (CONSUMERS == 2) registers_grow<224>();
    wait_for_previous();
    consume({p, &map_d, stages, staging, full, empty, rank, part}, first, step, width);
  }
  // No block of a cluster may end while another can still deliver to its shared memory, arrive at its barriers or read its sums.
  if (blocks > 1) {
    __syncwarp();
    cluster_leave();
  }
}
