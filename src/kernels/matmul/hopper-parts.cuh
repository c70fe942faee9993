// How the blocks of a cluster, each of which has a part of K, finish a tile of hopper.cu together.
#pragma once
#include "hopper-epilogue.cuh"

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
__device__ __forceinline__ void add_parts(const Problem& p, u32 stages, int part, const float* sums, const Place& at, int width) {
  const int thread = threadIdx.x - 128, lane = thread % 32;
  // The other warpgroup may still multiply out of the ring.
  asm volatile("bar.sync 1, %0;" ::"n"(128 * CONSUMERS) : "memory");
  const u32 mine = stages + ((thread / 32 * 16 + lane / 4) * SUMS_ROW + 2 * (lane % 4)) * 4;
#pragma unroll
  for (int j = 0; j < COLS / 8; j++) {
    store_shared(mine + 32 * j, sums[4 * j], sums[4 * j + 1]);
    store_shared(mine + 32 * j + 8 * SUMS_ROW * 4, sums[4 * j + 2], sums[4 * j + 3]);
  }
  cluster_sync();

  // A thread has four columns of every `apart`-th row from `first` on.
  const int lanes = width / 4, left = thread % lanes * 4, column = at.col + left;
  const int first = part + p.split * (thread / lanes), apart = p.split * (128 * CONSUMERS / lanes);
  const int end = column < p.n ? min(ROWS, p.m - at.row) : 0, rows = (end - first + apart - 1) / apart;
  u32 own = stages + (first * SUMS_ROW + left) * 4;
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
