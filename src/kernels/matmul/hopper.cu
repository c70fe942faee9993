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
#include "hopper-ptx.cuh"
#include "../common/launch.cuh"

// ---- tiles ---------------------------------------------------------------------------------------------------------

template <int ROWS, int COLS, int STAGES, int CLUSTER>
struct Shape {
  static constexpr int rows = ROWS, cols = COLS, stages = STAGES, cluster = CLUSTER;
};
#ifndef HOPPER_SHAPE  // tuning may compile other shapes under the same name
typedef Shape<128, 256, 4, 2> m128n256;
typedef Shape<128, 128, 6, 1> m128n128;
typedef Shape<128, 64, 8, 1> m128n64;
typedef Shape<64, 128, 8, 1> m64n128;
typedef Shape<64, 64, 12, 1> m64n64;
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
constexpr bool PARTS = CLUSTER == 1;  // of K, which are for few rows; clusters that share B are for many

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
static_assert(SHARED_BYTES + 1024 <= 227 * 1024, "shared memory of an SM");
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
  i32 split;      // parts of K
  i32 box_rows;   // of A that a copy brings: all of a tile's, or fewer
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

// ---- the parts of K ------------------------------------------------------------------------------------------------

constexpr int SUMS_ROW = COLS + 8;  // floats: the four rows that half a warp writes lie in different banks
static_assert(ROWS * SUMS_ROW * 4 <= STAGES * STAGE_BYTES, "the sums take the place of the ring");

// Waits for all threads of the cluster, and orders nothing: what they read has been used.
__device__ __forceinline__ void cluster_leave() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}

__device__ __forceinline__ float4 load_in_cluster(u32 address, u32 rank) {
  u32 remote;
  float4 v;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(address), "r"(rank));
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "r"(remote) : "memory");
  return v;
}

// Adds four columns of `rows` rows, `step` bytes apart, of PARTS parts in order, and leaves the sums where this block has its own: no
// other block reads those rows. Loads are on their way before the first is needed: a block next door takes half a microsecond.
constexpr int LOADS = 8;
template <int PARTS_OF_K>
__device__ __forceinline__ void add_rows(u32 at, u32 step, int rows) {
  constexpr int AT_ONCE = LOADS / PARTS_OF_K;
#pragma unroll 1
  for (int row = 0; row < rows; row += AT_ONCE, at += AT_ONCE * step) {
    float4 parts[AT_ONCE][PARTS_OF_K];
#pragma unroll
    for (int i = 0; i < AT_ONCE; i++) {
#pragma unroll
      for (int q = 0; q < PARTS_OF_K; q++)
        if (row + i < rows) parts[i][q] = load_in_cluster(at + i * step, q);
    }
#pragma unroll
    for (int i = 0; i < AT_ONCE; i++) {
      if (row + i >= rows) continue;
      float4 sum = parts[i][0];
#pragma unroll
      for (int q = 1; q < PARTS_OF_K; q++) {
        sum.x += parts[i][q].x;
        sum.y += parts[i][q].y;
        sum.z += parts[i][q].z;
        sum.w += parts[i][q].w;
      }
      store_shared(at + i * step, sum.x, sum.y);
      store_shared(at + i * step + 8, sum.z, sum.w);
    }
  }
}

__device__ __forceinline__ void load_four(float (&v)[4], u32 at) {
  const float2 left = load_shared(at), right = load_shared(at + 8);
  v[0] = left.x;
  v[1] = left.y;
  v[2] = right.x;
  v[3] = right.y;
}

// The epilogue of four columns of D from `column` on.
template <typename T>
__device__ __forceinline__ void finish_four(const Problem& p, float (&value)[4], const float (&ups)[4], i64 row, int column) {
  const T* residual = static_cast<const T*>(p.residual) + row * p.ldr + column;
  T* out = static_cast<T*>(p.out) + row * p.ldd + column;
  const int columns = min(4, p.n - column);
  Vec<T, 4> v;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    value[i] *= p.alpha;
    if (i < columns && p.bias) value[i] += to_float(p.bias[column + i]);
    if (p.gate) {
      float up = ups[i] * p.alpha;
      if (i < columns && p.bias) up += to_float(p.bias[p.n + column + i]);
      value[i] = activation(p.gate, value[i]) * up;
    }
    if (i < columns && p.residual) value[i] += to_float(residual[i]);
    v[i] = from_float<T>(value[i]);
  }
  if (columns == 4 && reinterpret_cast<u64>(out) % sizeof(v) == 0) {
    *reinterpret_cast<Vec<T, 4>*>(out) = v;
  } else {
#pragma unroll
    for (int i = 0; i < 4; i++)
      if (i < columns) out[i] = v[i];
  }
}

// Every block of the cluster has the sums of its part of K for the same tile. They lay them down where the ring was, and each
// finishes every split-th row from the sums of all, which it reads in the others' shared memory.
__device__ __forceinline__ void add_parts(const Consumer& c, const float* sums, const Place& at, int width) {
  const Problem& p = c.p;
  const int thread = threadIdx.x - 128, lane = thread % 32;
  // The other warpgroup may still multiply out of the ring.
  asm volatile("bar.sync 1, %0;" ::"n"(128 * CONSUMERS) : "memory");
  const u32 mine = c.stages + ((thread / 32 * 16 + lane / 4) * SUMS_ROW + 2 * (lane % 4)) * 4;
#pragma unroll
  for (int j = 0; j < COLS / 8; j++) {
    store_shared(mine + 32 * j, sums[4 * j], sums[4 * j + 1]);
    store_shared(mine + 32 * j + 8 * SUMS_ROW * 4, sums[4 * j + 2], sums[4 * j + 3]);
  }
  cluster_sync();

  // A thread has four columns of every `apart`-th row from `first` on.
  const int lanes = width / 4, left = thread % lanes * 4, column = at.col + left;
  const int first = c.part + p.split * (thread / lanes), apart = p.split * (128 * CONSUMERS / lanes);
  const int end = column < p.n ? min(ROWS, p.m - at.row) : 0, rows = (end - first + apart - 1) / apart;
  u32 own = c.stages + (first * SUMS_ROW + left) * 4;
  const u32 step = apart * SUMS_ROW * 4;
  const u32 ups = COLS / 2 * 4; // from a gate's sum to the up's
#pragma unroll 1
  for (u32 half = 0; half <= (p.gate ? ups : 0); half += ups) {
    if (p.split == 2) add_rows<2>(own + half, step, rows);
    else if (p.split == 4) add_rows<4>(own + half, step, rows);
    else add_rows<8>(own + half, step, rows);
  }
#pragma unroll 1
  for (int row = first; row < end; row += apart, own += step) {
    float value[4], up[4];
    load_four(value, own);
    if (p.gate) load_four(up, own + ups);
    if (p.store == kFloat) finish_four<float>(p, value, up, at.row + row, column);
    else finish_four<scalar_t>(p, value, up, at.row + row, column);
  }
}

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
        add_parts(c, sums, at, width);
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
