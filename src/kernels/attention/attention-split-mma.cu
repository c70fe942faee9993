// attention_split_mma: attention_split on the tensor cores, for 16-bit types from sm_80 on.
//
// The same division of the work (attention-split.cu): one block serves 8 query rows (new token, head of the group) of one
// key/value head over one chunk, and leaves the chunk's maximum score m, the sum l of 2^(score - m) and the sum of
// 2^(score - m) · v for each row; attention_combine joins the chunks.
//
//   query [T, H, D] (row stride), caches [blocks, G, 16, D], partial [B, queries, H, splits, D] f32, stats [.., 2] f32
//   Grid: (B · splits, G · row tiles). Block: 128 threads. D % 8 == 0, D <= WIDTH.
//
// A warp takes 16 keys at a time, and loads all that it needs of them before it uses any: 8 KB of K and V at D = 128. A chunk
// of 64 keys, which is all there are up to a context of 4096, is then one memory latency, not one after the other. Neither
// operand goes through shared memory: a product does not care in which order its k run nor which row is which, so lanes
// read the 16 bytes that lie together, and call them what the fragments want. With g = lane / 4 and t = lane % 4:
//
//   S [rows, keys]  = Q · K^T     Q and K: row (key) g, elements 8t ... 8t + 7 of each 32: k of two products
//   O^T [D, rows]   = V^T · P^T   V: keys 2t, 2t + 1, 8 + 2t, 9 + 2t, elements 8g ... 8g + 7 of each 64; two keys' elements of
//                                 one column are put in one register by a byte permutation
//
// S leaves a lane with row g and the very keys that P^T wants of it. Half of Q's 16 rows are zeros. Weights are split into two
// 16-bit parts (P = high + low), each multiplied, so that they are not rounded to 8 or 11 bits.
//
// Traffic as in attention-split.cu; arithmetic, per 16 keys, 16 + 16 products of D = 128 and some 150 other instructions: bound by
// memory at every context. Sums over keys: the tensor core's order within 16, then online, then the four warps in order;
// nothing depends on the batch.
// Shared memory: 4 warps · 8 · (D + 2) floats (dynamic) and 128 B. Registers (width 64, 128, 256): 116, 182, 255, the last
// with 92 B of spills.
// Variants: dtype {f16, bf16}; width, the next of 64, 128 and 256 that holds D.
#include "attention.cuh"
#include "../matmul/tensor-core.cuh"

inline constexpr int WIDTH = VARIANT_WIDTH;
inline constexpr int ROWS = 8;              // these two: plan.ts
inline constexpr int WARPS = 4;
inline constexpr int KEYS = 16;             // of a warp at a time
inline constexpr int SPANS = WIDTH / 32;    // of a row of Q or K: 16 bytes a lane
inline constexpr int PIECES = WIDTH / 64;   // of a row of V: 16 bytes a lane
inline constexpr int TILES = WIDTH / 16;    // of O^T

// Two floats in one register, the first in the low half; and what they became.
__device__ __forceinline__ u32 pack(float low, float high) {
  const Vec<scalar_t, 2> both = {{from_float<scalar_t>(low), from_float<scalar_t>(high)}};
  return *reinterpret_cast<const u32*>(&both);
}
__device__ __forceinline__ Vec<float, 2> unpack(u32 both) { return to_floats(*reinterpret_cast<const Vec<scalar_t, 2>*>(&both)); }

__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(WARP, x, 1));
  return fmaxf(x, __shfl_xor_sync(WARP, x, 2));
}
__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(WARP, x, 1);
  return x + __shfl_xor_sync(WARP, x, 2);
}

// 16 bytes; zeros where there are none, or what was there.
__device__ __forceinline__ void load_or_zero(uint4& to, const scalar_t* p, bool exists, bool stay) {
  if (exists) to = *reinterpret_cast<const uint4*>(p);
  else if (!stay) to = uint4{0, 0, 0, 0};
}
__device__ __forceinline__ u32 word(const uint4& v, int i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }

extern "C" __global__ void __launch_bounds__(WARPS * 32)
KERNEL_NAME(float* partial, float* stats, const scalar_t* query, const scalar_t* key_cache, const scalar_t* value_cache,
            const i32* query_starts, const i32* context_lengths, const i32* block_table, i64 query_stride,
            i32 max_blocks, i32 heads, i32 kv_heads, i32 head_dim, i32 splits, i32 queries, i32 window, float scale,
            float softcap, i32 settled) {
  extern __shared__ float merge[]; // [WARPS][ROWS][head_dim + 2]
  __shared__ float weights[ROWS * WARPS];
  allow_next();
  if (!settled) wait_for_previous();

  // ---- which part of the work this is -------------------------------------------------------------------------------
  const i32 b = blockIdx.x / splits, split = blockIdx.x % splits;
  const Sequence seq = load_sequence(b, query_starts, context_lengths, window);
  const Chunks chunks = divide_context(seq);
  const i32 group = heads / kv_heads;
  const i32 kv_head = blockIdx.y % kv_heads, first_row = blockIdx.y / kv_heads * ROWS;
  const i32 rows = min(ROWS, seq.queries * group - first_row);
  if (seq.queries > FEW_QUERIES || split >= chunks.count || rows <= 0) {
    if (settled) wait_for_previous(); // who waits for this grid waits for the one before, too
    return;
  }
  const i32 begin = chunks.begin + split * chunks.tokens;
  const i32 end = min(begin + chunks.tokens, seq.context);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;

  // ---- keys and values, 16 of each; those of earlier tokens before the new ones' are stored --------------------------
  const i32* blocks = block_table + i64(b) * max_blocks;
  uint4 k[2][SPANS], v[4][PIECES];
  // Of the keys from `from` on; the others become zeros, or stay as they are. Keys outside the chunk are not read: what lies
  // there may be another's, or nothing.
  const auto load_keys = [&](i32 base, i32 from, i32 to, bool stay) {
#pragma unroll
    for (int n = 0; n < 2; n++) {
      const i32 position = base + 8 * n + g;
      const bool exists = position >= from && position < to;
      const scalar_t* at = key_cache + (exists ? cache_row_at(blocks, position, kv_head, kv_heads, head_dim) : 0) + 8 * t;
#pragma unroll
      for (int s = 0; s < SPANS; s++) load_or_zero(k[n][s], at + 32 * s, exists && 32 * s + 8 * t < head_dim, stay);
    }
  };
  const auto load_values = [&](i32 base, i32 from, i32 to, bool stay) {
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const i32 position = base + j / 2 * 8 + 2 * t + j % 2;
      const bool exists = position >= from && position < to;
      const scalar_t* at = value_cache + (exists ? cache_row_at(blocks, position, kv_head, kv_heads, head_dim) : 0) + 8 * g;
#pragma unroll
      for (int p = 0; p < PIECES; p++) load_or_zero(v[j][p], at + 64 * p, exists && 64 * p + 8 * g < head_dim, stay);
    }
  };
  i32 from = begin; // the first that is not loaded yet
  if (WIDTH < 256 && settled) {
    from = min(end, seq.first_position());
    load_keys(begin + warp * KEYS, begin, from, false);
    load_values(begin + warp * KEYS, begin, from, false);
  }
  if (settled) wait_for_previous();

  // ---- the queries: this lane's are of row g; rows past the last are zeros -------------------------------------------
  const ScoreScale score_of(scale, softcap);
  const u32 seen = window > 0 ? window : 0x7fffffffu; // keys that a row sees
  const i32 row = first_row + min(g, rows - 1), i = row / group, head = kv_head * group + row % group;
  const i32 last_key = seq.first_position() + i;
  const scalar_t* own_query = query + (seq.first_token + i) * query_stride + head * head_dim;
  uint4 q[SPANS];
#pragma unroll
  for (int s = 0; s < SPANS; s++) load_or_zero(q[s], own_query + 32 * s + 8 * t, g < rows && 32 * s + 8 * t < head_dim, false);

  float maximum = LOWEST, sum = 0.0f; // of row g; the sum over this lane's keys
  float out[TILES][4] = {};           // (even, odd column) of rows 2t, 2t + 1: [0], [2] and [1], [3]

  // ---- stream the chunk ---------------------------------------------------------------------------------------------
  for (i32 base = begin + warp * KEYS; base < end; base += WARPS * KEYS) {
    const bool stay = from > begin && base < begin + WARPS * KEYS;
    load_keys(base, stay ? from : begin, end, stay);
    if constexpr (WIDTH < 256) load_values(base, stay ? from : begin, end, stay);

    float products[2][2][4] = {}; // two chains for each 8 keys
#pragma unroll
    for (int s = 0; s < SPANS; s++) {
#pragma unroll
      for (int n = 0; n < 2; n++) {
        mma_16x8x16(products[n][0], q[s].x, 0, q[s].y, 0, k[n][s].x, k[n][s].y);
        mma_16x8x16(products[n][1], q[s].z, 0, q[s].w, 0, k[n][s].z, k[n][s].w);
      }
    }
    if constexpr (WIDTH == 256) load_values(base, begin, end, false); // where K has been; registers do not hold both

    float score[1][4]; // of the keys whose values this lane holds
#pragma unroll
    for (int j = 0; j < 4; j++) score[0][j] = products[j / 2][0][j % 2] + products[j / 2][1][j % 2];
    score_of(score);
    float highest = maximum;
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const i32 position = base + j / 2 * 8 + 2 * t + j % 2;
      // One unsigned comparison: a key after the row's own position is a huge distance before it.
      const bool is_seen = position < end && u32(last_key - position) < seen;
      score[0][j] = is_seen ? score[0][j] : MINUS_INFINITY;
      highest = fmaxf(highest, score[0][j]);
    }
    highest = quad_max(highest);
    const float keep = exp2_fast(maximum - highest);
    maximum = highest;
    sum *= keep;
#pragma unroll
    for (int j = 0; j < 4; j++) {
      score[0][j] = exp2_fast(score[0][j] - maximum);
      sum += score[0][j];
    }
    u32 high[2], low[2];
#pragma unroll
    for (int n = 0; n < 2; n++) {
      high[n] = pack(score[0][2 * n], score[0][2 * n + 1]);
      const Vec<float, 2> kept = unpack(high[n]);
      low[n] = pack(score[0][2 * n] - kept[0], score[0][2 * n + 1] - kept[1]);
    }
    const float keep_first = __shfl_sync(WARP, keep, 8 * t), keep_second = __shfl_sync(WARP, keep, 8 * t + 4);
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) {
      float(&o)[4] = out[tile];
      o[0] *= keep_first;
      o[1] *= keep_second;
      o[2] *= keep_first;
      o[3] *= keep_second;
      const int p = tile / 4, w = tile % 4;
      const u32 first = word(v[0][p], w), second = word(v[1][p], w), third = word(v[2][p], w), fourth = word(v[3][p], w);
      const u32 even = __byte_perm(first, second, 0x5410), odd = __byte_perm(first, second, 0x7632);
      const u32 even8 = __byte_perm(third, fourth, 0x5410), odd8 = __byte_perm(third, fourth, 0x7632);
      mma_16x8x16(o, even, odd, even8, odd8, low[0], low[1]);
      mma_16x8x16(o, even, odd, even8, odd8, high[0], high[1]);
    }
  }

  // ---- merge the warps and store ------------------------------------------------------------------------------------
  const int pitch = head_dim + 2;
  sum = quad_sum(sum);
  if (t == 0) {
    float* mine = merge + (warp * ROWS + g) * pitch + head_dim;
    mine[0] = maximum;
    mine[1] = sum;
  }
#pragma unroll
  for (int tile = 0; tile < TILES; tile++) {
    const int column = tile / 4 * 64 + 8 * g + tile % 4 * 2;
    if (column >= head_dim) continue;
    float* mine = merge + (warp * ROWS + 2 * t) * pitch + column;
    *reinterpret_cast<float2*>(mine) = make_float2(out[tile][0], out[tile][2]);
    *reinterpret_cast<float2*>(mine + pitch) = make_float2(out[tile][1], out[tile][3]);
  }
  __syncthreads();
  const auto result_of = [&](int r) { // where the row's results for this chunk go
    const i32 query_row = first_row + r;
    return ((i64(b) * queries + query_row / group) * heads + kv_head * group + query_row % group) * splits + split;
  };
  if (threadIdx.x < ROWS * WARPS) {
    const int r = threadIdx.x / WARPS, w = threadIdx.x % WARPS;
    const float* part = merge + (w * ROWS + r) * pitch + head_dim;
    const float highest = quad_max(part[0]);
    const float weight = exp2_fast(part[0] - highest);
    const float total = quad_sum(weight * part[1]);
    weights[threadIdx.x] = weight;
    if (w == 0 && r < rows) *reinterpret_cast<float2*>(stats + result_of(r) * 2) = make_float2(highest, total);
  }
  __syncthreads();
  constexpr int SHARE = WARPS * 32 / ROWS; // threads that store one row
  const int r = threadIdx.x / SHARE;
  if (r >= rows) return;
  float* to = partial + result_of(r) * head_dim;
#pragma unroll 4
  for (int column = threadIdx.x % SHARE * 2; column < head_dim; column += SHARE * 2) {
    float2 value = {0.0f, 0.0f};
#pragma unroll
    for (int w = 0; w < WARPS; w++) {
      const float weight = weights[r * WARPS + w];
      const float2 part = *reinterpret_cast<const float2*>(merge + (w * ROWS + r) * pitch + column);
      value.x = fmaf(weight, part.x, value.x);
      value.y = fmaf(weight, part.y, value.y);
    }
    *reinterpret_cast<float2*>(to + column) = value;
  }
}
