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
// Tiles of D are dealt to a persistent grid (one block per SM) in groups of `group_rows` tile rows, walked column by
// column, so that the blocks at work at one time share rows of A and of B in the L2 cache. The two blocks of a cluster
// take tiles one above the other: they need the same B, so each fetches half of it and the copy engine delivers it to
// both. That halves the L2 reads of B.
//
// Floors, 4096^3 bf16 on an H200 (132 SMs): 137.4 GFLOP at the 690 TFLOP/s that cuBLASLt sustains are 199 us; the device
// memory traffic is 101 MB, 24 us: bound by the tensor cores. What must keep up is L2: a 128 x 256 tile step is
// 2 * 128 * 256 * 64 / 4096 = 1024 clocks of wgmma and fetches 48 KB (32 KB with the B of a pair shared), so 47 (31) bytes
// per clock and SM, close to what L2 delivers without the sharing. Shared memory reads: 10 KB per wgmma m64n256k16 of 128
// clocks, 80 of 128 bytes a clock. Weights of few rows (M <= 64) are bound by device memory instead: N * K * 2 bytes.
//
// Tiles, with ptxas' registers per thread at entry (nothing spills; with two consumers setmaxnreg then moves them: 232 for
// a consumer, 40 for the producer):
//   m128n256  2 consumers, 4 stages of 48 KB, cluster of 2    128 sums a thread, 168 registers
//   m128n128  2 consumers, 6 stages of 32 KB                   64 sums a thread, 168 registers
//   m64n128   1 consumer,  8 stages of 24 KB                   64 sums a thread, 128 registers
//   m64n64    1 consumer,  5 stages of 16 KB, 2 blocks an SM   32 sums a thread,  87 registers; for weights read once
// Every tile adds the products of K in the same order, so that the choice among them does not change a result.
//
// Sources: PTX ISA, sections on wgmma, cp.async.bulk.tensor and mbarrier.
#include "hopper-ptx.cuh"

// ---- tiles ---------------------------------------------------------------------------------------------------------

template <int ROWS, int COLS, int STAGES, int CLUSTER, int BLOCKS>
struct Shape {
  static constexpr int rows = ROWS, cols = COLS, stages = STAGES, cluster = CLUSTER, blocks_per_sm = BLOCKS;
};
#ifndef HOPPER_SHAPE  // tuning may compile other shapes under the same name
typedef Shape<128, 256, 4, 2, 1> m128n256;
typedef Shape<128, 128, 6, 1, 1> m128n128;
typedef Shape<64, 128, 8, 1, 1> m64n128;
typedef Shape<64, 64, 5, 1, 2> m64n64;
using Tile = VARIANT_TILE;
#else
using Tile = HOPPER_SHAPE;
#endif

constexpr int DEPTH = 64;  // columns of K in a stage: 128 bytes, one row of the swizzle
constexpr int ROWS = Tile::rows;
constexpr int COLS = Tile::cols;
constexpr int STAGES = Tile::stages;
constexpr int CLUSTER = Tile::cluster;
constexpr int CONSUMERS = ROWS / 64;
constexpr int THREADS = 128 * (1 + CONSUMERS);

constexpr u32 A_BYTES = ROWS * DEPTH * 2;
constexpr u32 HALF_B_BYTES = COLS / 2 * DEPTH * 2;  // B comes in two boxes of COLS / 2 rows
constexpr u32 STAGE_BYTES = A_BYTES + 2 * HALF_B_BYTES;
// Output staging: a warp's 16 rows x 64 columns, twice, so that one is filled while the copy engine reads the other.
constexpr u32 STAGING_BOX_BYTES = 16 * 64 * 2;
constexpr u32 STAGING_BYTES = CONSUMERS * 4 * 2 * STAGING_BOX_BYTES;
constexpr u32 BARRIER_BYTES = 2 * STAGES * 8;
// The launcher asks for this many, and 1024 more to align the start: see sharedBytes in hopper.ts.
constexpr u32 SHARED_BYTES = STAGES * STAGE_BYTES + STAGING_BYTES + BARRIER_BYTES;

static_assert(COLS == 64 || COLS == 128 || COLS == 256, "wgmma is instantiated for these N");
static_assert(SHARED_BYTES + 1024 <= 227 * 1024 / Tile::blocks_per_sm, "shared memory of an SM");
static_assert(STAGE_BYTES % 1024 == 0 && HALF_B_BYTES % 1024 == 0, "swizzle groups are 1024 bytes");

struct Problem {
  void* out;             // [M, N], rows ldd elements apart
  const scalar_t* bias;  // [N], or [2N] with a gate; or null
  const void* residual;  // [M, N] of the output's type, rows ldr elements apart; or null
  i64 ldd, ldr;
  i32 m, n, k;
  float alpha;
  i32 group_rows;
  i32 gate;       // 0 none, 1 SiLU, 2 GELU (tanh)
  i32 store;      // see Store
  i32 column_tiles, row_tiles;  // of D, in cluster tiles: CLUSTER * ROWS rows, COLS columns (COLS / 2 with a gate)
};

enum Store {
  kBulk = 0,    // 16-bit, by the copy engine: `out` 16-byte aligned, ldd a multiple of 8, no residual
  kScalar = 1,  // 16-bit, any alignment
  kFloat = 2,   // float32
};

// ---- the order of tiles --------------------------------------------------------------------------------------------

struct Place {
  int row, col;  // of this block's tile in D
};

// Tile `index` of the walk: groups of group_rows tile rows; inside a group column by column, top to bottom.
__device__ __forceinline__ Place place_of(const Problem& p, int index, u32 rank, int width) {
  int in_group = p.group_rows * p.column_tiles;
  int group = index / in_group;
  int rest = index - group * in_group;
  int first_row = group * p.group_rows;
  int rows = min(p.group_rows, p.row_tiles - first_row);
  int column = rest / rows;
  int row = first_row + rest - column * rows;
  return {(row * CLUSTER + int(rank)) * ROWS, column * width};
}

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

__device__ __forceinline__ void produce(const Problem& p, const TensorMap* map_a, const TensorMap* map_b, u32 stages,
                                        u32 full, u32 empty, u32 rank, int first, int step, int width) {
  Ring ring;
  int tiles = p.row_tiles * p.column_tiles;
  for (int index = first; index < tiles; index += step) {
    Place at = place_of(p, index, rank, width);
    // Without a gate the second half of the B tile follows the first; with one it is the same columns of the up matrix.
    int second_half = p.gate ? at.col + p.n : at.col + COLS / 2;
    for (int k = 0; k < p.k; k += DEPTH, ring.advance()) {
      u32 a = stages + ring.stage * STAGE_BYTES;
      u32 b = a + A_BYTES;
      u32 ready = full + ring.stage * 8;
      // A fresh ring counts as empty: the parity before the first phase is "over".
      barrier_wait(empty + ring.stage * 8, ring.parity ^ 1);
      barrier_expect_bytes(ready, STAGE_BYTES);
      load_box(a, map_a, at.row, k, ready);
      if constexpr (CLUSTER == 2) {
        int half_row = rank == 0 ? at.col : second_half;
        load_box_multicast(b + rank * HALF_B_BYTES, map_b, half_row, k, ready, 3);
      } else {
        load_box(b, map_b, at.col, k, ready);
        load_box(b + HALF_B_BYTES, map_b, second_half, k, ready);
      }
    }
  }
}

// ---- epilogue ------------------------------------------------------------------------------------------------------

// sums[0 .. COUNT): this thread's part of 16 rows x 2 COUNT columns of D, from column `col` on; see wgmma().
template <int COUNT>
__device__ __forceinline__ void add_bias(const Problem& p, const scalar_t* bias, float* sums, int col, int lane) {
#pragma unroll
  for (int j = 0; j < COUNT / 4; j++) {
    int c = col + 8 * j + 2 * (lane % 4);
    float left = c < p.n ? to_float(bias[c]) : 0.0f;
    float right = c + 1 < p.n ? to_float(bias[c + 1]) : 0.0f;
    sums[4 * j] += left;
    sums[4 * j + 1] += right;
    sums[4 * j + 2] += left;
    sums[4 * j + 3] += right;
  }
}

__device__ __forceinline__ float activation(i32 gate, float x) {
  // silu(x) = x / (1 + exp(-x)); gelu(x) = x / (1 + exp(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3), since
  // (1 + tanh u) / 2 = 1 / (1 + exp(-2u)).
  float t = gate == 1 ? x : 1.5957691216057308f * (x + 0.044715f * x * x * x);
  return x / (1.0f + __expf(-t));
}

// Fast path. The warp writes a box of 16 rows x 64 columns to shared memory as 16-bit, swizzled as the copy engine expects
// it: 16-byte piece q of row r lies at piece q ^ (r % 8), so that eight rows of one piece fall into different banks.
__device__ __forceinline__ void stage_scalars(const float* sums, u32 buffer, int lane) {
  int row = lane % 16;  // store_matrices: lanes 0-15 address rows of the left 8 columns, 16-31 of the right
#pragma unroll
  for (int q = 0; q < 4; q++) {
    const float* s = sums + 8 * q;
    u32 piece = (2 * q + lane / 16) ^ (row % 8);
    store_matrices(buffer + row * 128 + piece * 16, pack<scalar_t>(s[0], s[1]), pack<scalar_t>(s[2], s[3]),
                   pack<scalar_t>(s[4], s[5]), pack<scalar_t>(s[6], s[7]));
  }
}

// General path. The same box as float32, 256 bytes a row (both buffers together); columns are swizzled by eights.
__device__ __forceinline__ u32 float_offset(int row, int col) { return (row * 64 + (col ^ ((row % 8) * 8))) * 4; }

__device__ __forceinline__ void stage_floats(const float* sums, u32 buffer, int lane) {
#pragma unroll
  for (int j = 0; j < 8; j++) {
    int row = lane / 4, col = 8 * j + 2 * (lane % 4);
    store_shared(buffer + float_offset(row, col), sums[4 * j], sums[4 * j + 1]);
    store_shared(buffer + float_offset(row + 8, col), sums[4 * j + 2], sums[4 * j + 3]);
  }
}

// Writes the staged box row by row: a lane has two columns, so that a warp's access is one contiguous 128 or 256 bytes.
template <typename T>
__device__ __forceinline__ void flush_floats(const Problem& p, u32 buffer, int row0, int col0, int lane) {
  const T* residual = static_cast<const T*>(p.residual);
  T* out = static_cast<T*>(p.out);
  int col = col0 + 2 * lane;
  bool left = col < p.n, right = col + 1 < p.n;
  // Rows start at multiples of a pair, so that one access moves both columns.
  bool pairs = right && (p.ldd | (residual ? p.ldr : 0)) % 2 == 0 &&
               (reinterpret_cast<u64>(out) | reinterpret_cast<u64>(residual)) % (2 * sizeof(T)) == 0;
#pragma unroll 1
  for (int half = 0; half < 2; half++) {
    i64 first = row0 + 8 * half;
    int rows = int(min(i64(8), p.m - first));
    // All the residual's loads before the first store, which might be to the same memory: `out` may be the residual.
    float2 sums[8];
#pragma unroll
    for (int r = 0; r < 8; r++) {
      sums[r] = load_shared(buffer + float_offset(8 * half + r, 2 * lane));
      if (!residual || r >= rows) continue;
      const T* from = residual + (first + r) * p.ldr + col;
      if (pairs) {
        Vec<T, 2> v = *reinterpret_cast<const Vec<T, 2>*>(from);
        sums[r].x += to_float(v[0]);
        sums[r].y += to_float(v[1]);
      } else {
        if (left) sums[r].x += to_float(from[0]);
        if (right) sums[r].y += to_float(from[1]);
      }
    }
#pragma unroll
    for (int r = 0; r < 8; r++) {
      if (r >= rows) continue;
      T* to = out + (first + r) * p.ldd + col;
      Vec<T, 2> v;
      v[0] = from_float<T>(sums[r].x);
      v[1] = from_float<T>(sums[r].y);
      if (pairs) {
        *reinterpret_cast<Vec<T, 2>*>(to) = v;
      } else {
        if (left) to[0] = v[0];
        if (right) to[1] = v[1];
      }
    }
  }
}

// Stores a warp's 16 rows of D from (row, col) on, `width` of the COLS columns that `sums` has room for, 64 at a time.
// `boxes` counts the boxes that this warp has staged, for the choice of the buffer.
__device__ __forceinline__ void store_tile(const Problem& p, const TensorMap* map_d, const float* sums, u32 staging, int& boxes,
                                           int row, int col, int width, int lane) {
  if (row >= p.m) return;
  // The loop is not unrolled, to keep the code small; registers need constant indices, hence the inner loops.
#pragma unroll 1
  for (int box = 0; box < width / 64 && col + 64 * box < p.n; box++) {
    if (p.store == kBulk) {
      u32 buffer = staging + (boxes++ % 2) * STAGING_BOX_BYTES;
      if (lane == 0) store_wait_read<1>();  // the store before may go on reading the other buffer
      __syncwarp();
#pragma unroll
      for (int b = 0; b < COLS / 64; b++) {
        if (b == box) stage_scalars(sums + 32 * b, buffer, lane);
      }
      fence_for_bulk_copy();
      __syncwarp();
      if (lane == 0) {
        store_box(map_d, row, col + 64 * box, buffer);
        store_commit();
      }
    } else {
#pragma unroll
      for (int b = 0; b < COLS / 64; b++) {
        if (b == box) stage_floats(sums + 32 * b, staging, lane);
      }
      __syncwarp();
      if (p.store == kFloat) flush_floats<float>(p, staging, row, col + 64 * box, lane);
      else flush_floats<scalar_t>(p, staging, row, col + 64 * box, lane);
      __syncwarp();
    }
  }
}

// ---- consumers -----------------------------------------------------------------------------------------------------

__device__ __forceinline__ void release(u32 empty, int stage, int lane) {
  // Under a cluster both producers write to this buffer, so both wait for its readers in both blocks.
  if (lane < CLUSTER) barrier_arrive_at(empty + stage * 8, lane);
}

__device__ __forceinline__ void consume(const Problem& p, const TensorMap* map_d, u32 stages, u32 staging, u32 full, u32 empty,
                                        u32 rank, int first, int step, int width, int consumer) {
  int lane = threadIdx.x % 32;
  int warp = threadIdx.x / 32 % 4;
  u32 my_staging = staging + (consumer * 4 + warp) * 2 * STAGING_BOX_BYTES;
  Ring ring;
  int boxes = 0;
  int tiles = p.row_tiles * p.column_tiles;
  for (int index = first; index < tiles; index += step) {
    Place at = place_of(p, index, rank, width);
    float sums[COLS / 2];
    int previous = -1;
    for (int k = 0; k < p.k; k += DEPTH, ring.advance()) {
      barrier_wait(full + ring.stage * 8, ring.parity);
      u64 a = tile_descriptor(stages + ring.stage * STAGE_BYTES + consumer * 64 * DEPTH * 2);
      u64 b = tile_descriptor(stages + ring.stage * STAGE_BYTES + A_BYTES);
      pin_registers(sums);
      wgmma_fence();
#pragma unroll
      for (int i = 0; i < DEPTH / 16; i++) {
        wgmma<scalar_t>(sums, a + i * kDescriptorStepK16, b + i * kDescriptorStepK16, k > 0 || i > 0);
      }
      wgmma_commit();
      pin_registers(sums);
      // The step before is finished when at most this one is unfinished; its buffer can be filled again.
      wgmma_wait<1>();
      if (previous >= 0) release(empty, previous, lane);
      previous = ring.stage;
    }
    wgmma_wait<0>();
    pin_registers(sums);
    release(empty, previous, lane);

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
    store_tile(p, map_d, sums, my_staging, boxes, at.row + consumer * 64 + warp * 16, at.col, width, lane);
  }
  if (lane == 0) store_wait_all();
}

// ---- the kernel ----------------------------------------------------------------------------------------------------

extern "C" __global__ void __launch_bounds__(THREADS, Tile::blocks_per_sm)
#ifndef HOPPER_NO_CLUSTER_ATTRIBUTE
    __cluster_dims__(CLUSTER, 1, 1)
#endif
    KERNEL_NAME(const __grid_constant__ TensorMap map_a, const __grid_constant__ TensorMap map_b,
                const __grid_constant__ TensorMap map_d, void* out, const scalar_t* bias, const void* residual, i64 ldd,
                i64 ldr, i32 m, i32 n, i32 k, float alpha, i32 group_rows, i32 gate, i32 store) {
  extern __shared__ unsigned char raw[];
  u32 stages = (shared_address(raw) + 1023) & ~1023u;
  u32 staging = stages + STAGES * STAGE_BYTES;
  u32 full = staging + STAGING_BYTES;
  u32 empty = full + STAGES * 8;

  int width = gate ? COLS / 2 : COLS;
  Problem p = {out, bias, residual, ldd, ldr, m, n, k, alpha, group_rows, gate, store, 0, 0};
  p.column_tiles = (n + width - 1) / width;
  p.row_tiles = (m + CLUSTER * ROWS - 1) / (CLUSTER * ROWS);
  u32 rank = CLUSTER > 1 ? cluster_rank() : 0;
  int first = blockIdx.x / CLUSTER;
  int step = gridDim.x / CLUSTER;

  if (threadIdx.x == 0) {
    prefetch_map(&map_a);
    prefetch_map(&map_b);
    for (int s = 0; s < STAGES; s++) {
      barrier_init(full + s * 8, 1);
      barrier_init(empty + s * 8, CONSUMERS * 4 * CLUSTER);
    }
    barrier_init_fence();
  }
  if constexpr (CLUSTER > 1) cluster_sync();
  else __syncthreads();
  wait_for_previous_kernel();

  // 65,536 registers: 384 threads enter with 168 each; the producer gives up what the consumers' sums need.
  int warpgroup = threadIdx.x / 128;
  if (warpgroup == 0) {
    if constexpr (CONSUMERS == 2) registers_shrink<40>();
    if (threadIdx.x == 0) produce(p, &map_a, &map_b, stages, full, empty, rank, first, step, width);
  } else {
    if constexpr (CONSUMERS == 2) registers_grow<232>();
    consume(p, &map_d, stages, staging, full, empty, rank, first, step, width, warpgroup - 1);
  }
  // No block of a cluster may end while the other can still deliver to its shared memory or arrive at its barriers.
  if constexpr (CLUSTER > 1) {
    __syncwarp();
    cluster_sync();
  }
}
