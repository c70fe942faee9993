// Which experts a token goes to: the k largest of its logits, and their weights.
//
//   p = softmax(logits[t, :])      ids[t, :] = the k largest, largest first, the lower index first among equals
//   weights[t, j] = p[ids[t, j]]   divided by their sum over j where `normalize` is set
//
// logits [T, E] float32; ids [T, k] i32; weights [T, k] float32. k <= E.
// A warp takes a token; its lanes share the experts. There are k rounds, and each finds the largest pair (logit, index)
// below the last one found: nothing is marked, nothing is sorted, any E. The probabilities need no pass of their own: the
// largest logit is the first one found, and a sum over the chosen alone is what normalised weights are divided by.
// NaN counts as the largest, so that a broken token gets k different experts that exist, and weights of NaN.
//
// With `order` set the launch is one block, S = T * k <= 128, and the block groups the slots as well (groups.cuh), which
// saves a decode step the launch of moe-group.cu. Every thread finds the place of one slot by counting the slots that come
// before it: S comparisons, no sort.
//
// Grid: 8 tokens a block of 256 threads, or one block. Traffic: 4TE bytes read once, then from L1. A few microseconds at
// most, latency of the rounds: some 100 cycles each.
#include "groups.cuh"
#include "../common/launch.cuh"
#include "../common/ordered-key.cuh"
#include "../common/reduce.cuh"

constexpr int THREADS = 256;      // these two: routeThreads and fewSlots in route.ts
constexpr int FEW_SLOTS = 128;

// `staged`, unless null, gets the ids too.
__device__ __forceinline__ void route_token(i32* ids, i32* staged, f32* weights, const f32* logits, int experts, int k,
                                            bool normalize) {
  const int lane = threadIdx.x % 32;
  float top = 0.0f, chosen = 0.0f;
  u64 last = 0;
  for (int j = 0; j < k; j++) {
    u64 best = 0;
    for (int e = lane; e < experts; e += 32) {
      const u64 pair = ordered_pair(logits[e], u32(e));
      if ((j == 0 || pair < last) && pair > best) best = pair;
    }
    best = last = warp_max_u64(best);
    const int id = int(pair_index(best));
    if (j == 0) top = logits[id];
    const float weight = expf(logits[id] - top);
    chosen += weight;
    if (lane == 0) {
      ids[j] = id;
      if (staged) staged[j] = id;
      weights[j] = weight;
    }
  }
  float total = chosen;
  if (!normalize) {
    total = 0.0f;
    for (int e = lane; e < experts; e += 32) total += expf(logits[e] - top);
    total = warp_sum(total);
  }
  __syncwarp(); // the weights of lane 0 are there
  for (int j = lane; j < k; j += 32) weights[j] /= total;
}

// Groups S <= FEW_SLOTS slots in one block; expert_of [S] is in shared memory.
__device__ __forceinline__ void group_few(i32* order, i32* table, const i32* expert_of, int slots, int rows) {
  __shared__ i32 leads[FEW_SLOTS]; // by place in order: whether a group begins there
  const int slot = threadIdx.x;
  int place = 0, earlier = 0, same = 0; // of the slots with this expert: those before this one, and all
  if (slot < slots) {
    const int expert = expert_of[slot];
    for (int other = 0; other < slots; other++) {
      const int e = expert_of[other];
      place += e < expert || (e == expert && other < slot);
      earlier += e == expert && other < slot;
      same += e == expert;
    }
    order[place] = slot;
    leads[place] = earlier % rows == 0;
  }
  __syncthreads();
  if (slot >= slots) return;
  int before = 0;
  for (int p = 0; p < place; p++) before += leads[p];
  if (leads[place]) store_group(table, before, {expert_of[slot], place, min(rows, same - earlier)});
  if (place == slots - 1) store_group_count(table, before + leads[place]);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    KERNEL_NAME(i32* ids, f32* weights, i32* order, i32* table, const f32* logits, int tokens, int experts, int k,
                int normalize, int rows) {
  allow_next();
  wait_for_previous();
  __shared__ i32 expert_of[FEW_SLOTS];
  const int warps = THREADS / 32;
  for (int t = blockIdx.x * warps + threadIdx.x / 32; t < tokens; t += gridDim.x * warps) {
    i32* staged = order ? expert_of + t * k : nullptr;
    route_token(ids + i64(t) * k, staged, weights + i64(t) * k, logits + i64(t) * experts, experts, k, normalize != 0);
  }
  if (order == nullptr) return;
  __syncthreads();
  group_few(order, table, expert_of, tokens * k, rows);
}
