// Everything that comes before the products of a mixture of experts, for one token, in one launch: RMSNorm, the router's
// logits, the k largest and their weights, and the table of groups. A decode step at batch 1 otherwise spends three
// launches on it, some 3 us each, while memory idles.
//
//   y = x / sqrt(mean(x²) + eps) · (norm + offset)    y [C], rounded; with norm null y is x
//   logits = y · routerᵀ                              [E], never stored
//   ids, weights, order, table                        as moe-route.cu gives them, with S = k
//
// The bits are those of rms-norm.cu, gemv.cuh and moe-route.cu one after the other, whose orders of summation this follows: a
// token's result does not depend on whether it is alone in its batch.
//
// One cluster of eight blocks. Every block norms x for itself (C elements from L2, and a barrier); its rows of the router
// are on their way to shared memory before the previous kernel ends. Logits meet in the shared memory of the first block, which
// waits for the cluster once. There an expert's rank is how many others come before it: no rounds, E²/512 comparisons a
// thread; ranks below k are the choice.
// Needs sm_90, addresses on 16 bytes, C a multiple of 512 up to 8192, E <= 1024, k <= 32. 512 threads; 29 KB of shared memory
// and 64 KB (dynamic), at most 64 registers: room beside a block of the product before. Traffic: 2EC bytes of router (0.5 MB
// for 128 x 2048), under way early. Bound by latency: L2, three barriers of the block, one of the cluster.
#include "groups.cuh"
#include "../common/launch.cuh"
#include "../common/ordered-key.cuh"
#include "../common/reduce.cuh"
#include "../matmul/tensor-core.cuh"

constexpr int CLUSTER = 8;           // these five: route-one.ts
constexpr int WARPS = 16;
constexpr int MAX_COLUMNS = 8192;
constexpr int MAX_EXPERTS = 1024;
constexpr int MAX_CHOSEN = 32;
constexpr int THREADS = 32 * WARPS;
constexpr int R = 4, U = 2;          // these five as in gemv.cuh: experts of a team, and vectors that a lane has of each
constexpr int STEP = 32 * VEC;
constexpr int BATCH = U * STEP;
constexpr int MAX_SPLIT = 4;
constexpr int WARP_BYTES = R * U * 512; // what a warp has of the router at a time
constexpr int NORM_VALUES = 16;      // of x, per thread that norms: valuesPerThread in row-block.ts
constexpr int NORM_CHUNKS = NORM_VALUES / VEC;

// The address of this block's `p`, which is in shared memory, in block `rank` of the cluster.
__device__ __forceinline__ u32 shared_of(const void* p, u32 rank) {
  u32 address;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(u32(__cvta_generic_to_shared(p))), "r"(rank));
  return address;
}
__device__ __forceinline__ void store_to_cluster(u32 address, float value) {
  asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(address), "f"(value) : "memory");
}
__device__ __forceinline__ void arrive_in_cluster() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
__device__ __forceinline__ void wait_for_cluster() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }

// y [C] in shared memory, and from the first block in `out`. The block's first `threads` threads are those of rms-norm.cu.
__device__ __forceinline__ void norm_row(scalar_t* y, scalar_t* out, const scalar_t* x, const scalar_t* norm, int cols,
                                         float eps, float offset) {
  __shared__ float sums[WARPS];
  const int threads = (cols + 32 * NORM_VALUES - 1) / (32 * NORM_VALUES) * 32;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const auto element = [&](int j) { return (j * threads + int(threadIdx.x)) * VEC; };
  const auto mine = [&](int j) { return int(threadIdx.x) < threads && element(j) < cols; };
  vec_t w[NORM_CHUNKS], raw[NORM_CHUNKS];
#pragma unroll
  for (int j = 0; j < NORM_CHUNKS; j++) {
    if (norm && mine(j)) w[j] = load_vec(norm + element(j));
  }
  allow_next();
  wait_for_previous();
  float squares = 0.0f;
#pragma unroll
  for (int j = 0; j < NORM_CHUNKS; j++) {
    if (!mine(j)) continue;
    raw[j] = load_vec(x + element(j));
    const Vec<float, VEC> h = to_floats(raw[j]);
#pragma unroll
    for (int i = 0; i < VEC; i++) squares += h[i] * h[i];
  }
  const float total = warp_sum(squares);
  if (lane == 0) sums[warp] = total;
  __syncthreads();
  const float scale = 1.0f / sqrtf(warp_sum(lane < threads / 32 ? sums[lane] : 0.0f) / float(cols) + eps);
#pragma unroll
  for (int j = 0; j < NORM_CHUNKS; j++) {
    if (!mine(j)) continue;
    vec_t result = raw[j];
    if (norm) {
      Vec<float, VEC> h = to_floats(raw[j]);
#pragma unroll
      for (int i = 0; i < VEC; i++) h[i] = h[i] * scale * (to_float(w[j][i]) + offset);
      result = from_floats<scalar_t>(h);
    }
    store_vec(y + element(j), result);
    if (out) store_vec(out + element(j), result);
  }
  __syncthreads();
}

// chosen[rank] = the expert with so many better ones, for ranks below k. A warp ranks every WARPS-th expert, against 128 at a
// time, four a lane.
__device__ __forceinline__ void choose(i32* chosen, const u32* keys, int experts, int k) {
  constexpr int EACH = 4;
  __shared__ i32 ranks[MAX_EXPERTS];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int base = 0; base < experts; base += 32 * EACH) {
    u32 rivals[EACH];
#pragma unroll
    for (int i = 0; i < EACH; i++) rivals[i] = base + 32 * i + lane < experts ? keys[base + 32 * i + lane] : 0;
#pragma unroll 8
    for (int e = warp; e < experts; e += WARPS) {
      const u32 key = keys[e];
      int better = 0;
#pragma unroll
      for (int i = 0; i < EACH; i++) better += rivals[i] > key || (rivals[i] == key && base + 32 * i + lane < e);
      better = __reduce_add_sync(FULL_WARP, better);
      if (base > 0) better += ranks[e];
      if (base + 32 * EACH < experts) {
        __syncwarp();
        if (lane == 0) ranks[e] = better;
        __syncwarp();
      } else if (lane == 0 && better < k) {
        chosen[better] = e;
      }
    }
  }
}

// One warp, a lane for each choice: what moe-route.cu leaves of one token.
__device__ __forceinline__ void store_choice(i32* ids, f32* weights, i32* order, i32* table, const i32* chosen,
                                             const float* logits, int experts, int k, bool normalize) {
  const int lane = threadIdx.x % 32;
  const int id = lane < k ? chosen[lane] : MAX_EXPERTS;
  const float top = logits[chosen[0]];
  const float weight = lane < k ? expf(logits[id] - top) : 0.0f;
  float total = 0.0f;
  int place = 0;
#pragma unroll 4
  for (int j = 0; j < k; j++) {
    total += __shfl_sync(FULL_WARP, weight, j);
    place += __shfl_sync(FULL_WARP, id, j) < id;
  }
  if (!normalize) {
    total = 0.0f;
    for (int e = lane; e < experts; e += 32) total += expf(logits[e] - top);
    total = warp_sum(total);
  }
  if (lane < k) {
    ids[lane] = id;
    weights[lane] = weight / total;
    order[place] = lane;
    store_group(table, place, {id, place, 1});
  }
  if (lane == 0) store_group_count(table, k);
}

extern "C" __global__ void __cluster_dims__(CLUSTER) __launch_bounds__(THREADS, 2)
    KERNEL_NAME(scalar_t* out, i32* ids, f32* weights, i32* order, i32* table, const scalar_t* x, const scalar_t* norm,
                const scalar_t* router, int cols, int experts, int k, int normalize, float eps, float offset) {
  __shared__ __align__(16) scalar_t y[MAX_COLUMNS];
  __shared__ float logits[MAX_EXPERTS];
  __shared__ u32 keys[MAX_EXPERTS];
  __shared__ float partial[WARPS][R];
  __shared__ i32 chosen[MAX_CHOSEN];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, block = blockIdx.x;
  // The warps of a team share R experts, each with a slice of C, as those of a block in gemv.cuh do.
  const int split = min(MAX_SPLIT, cols / BATCH), teams = WARPS / split;
  const int team = warp / split, slice = warp % split;
  const auto first_of = [&](int round) { return ((round * CLUSTER + block) * teams + team) * R; };
  // A lane copies what it multiplies itself, so that it waits for no other.
  extern __shared__ __align__(16) unsigned char staged[];
  unsigned char* own = staged + warp * WARP_BYTES + lane * 16;
  const auto load = [&](int first, int at) {
#pragma unroll
    for (int r = 0; r < R; r++) {
      const scalar_t* row = router + i64(min(first + r, experts - 1)) * cols + at + lane * VEC;
#pragma unroll
      for (int u = 0; u < U; u++) copy_async(to_shared(own + (r * U + u) * 512), row + u * STEP, 16);
    }
    commit_copies();
  };

  arrive_in_cluster();
  if (team < teams) load(first_of(0), slice * BATCH);
  norm_row(y, block == 0 ? out : nullptr, x, norm, cols, eps, offset);

  wait_for_cluster(); // every block has begun: its shared memory may be written
  const int rounds = (experts + CLUSTER * teams * R - 1) / (CLUSTER * teams * R);
  for (int round = 0; round < rounds; round++) {
    const int first = first_of(round);
    float sum[R] = {};
    for (int at = slice * BATCH; team < teams && at < cols; at += split * BATCH) {
      if (round > 0 || at >= split * BATCH) load(first, at);
      wait_copies<0>();
#pragma unroll
      for (int u = 0; u < U; u++) {
        const Vec<float, VEC> part = to_floats(load_vec(y + at + u * STEP + lane * VEC));
#pragma unroll
        for (int r = 0; r < R; r++) {
          const Vec<float, VEC> row = to_floats(*reinterpret_cast<const vec_t*>(own + (r * U + u) * 512));
#pragma unroll
          for (int i = 0; i < VEC; i++) sum[r] = fmaf(row[i], part[i], sum[r]);
        }
      }
    }
#pragma unroll
    for (int r = 0; r < R; r++) {
      const float total = warp_sum(sum[r]);
      if (lane == 0) partial[warp][r] = total;
    }
    __syncthreads();
    if (team < teams && slice == 0 && lane < R && first + lane < experts) {
      float total = 0.0f;
      for (int s = 0; s < split; s++) total += partial[warp + s][lane];
      store_to_cluster(shared_of(&logits[first + lane], 0), total);
    }
    __syncthreads(); // partial may be written again
  }
  arrive_in_cluster();
  if (block != 0) return;
  wait_for_cluster();
  for (int e = threadIdx.x; e < experts; e += THREADS) keys[e] = ordered_key(logits[e]);
  __syncthreads();
  choose(chosen, keys, experts, k);
  __syncthreads();
  if (warp == 0) store_choice(ids, weights, order, table, chosen, logits, experts, k, normalize != 0);
}
