// rope_store: turns the queries and keys of new tokens by their positions and stores keys and values in the paged cache,
// and before that normalises query and key heads where a model does (QK-norm). One launch where two norms, rope of q, rope
// of k and two scattered copies would be six; a fused QKV row is read once.
//
// query [T, H, D], key and value [T, G, D] with a row stride each; caches [blocks, G, 16, D]; slots [T], -1 to store
// nothing. query_out may be query. Turning is as in rope (rotation.cuh); rotary_dim 0 only stores.
// Grid: (token, group of 8 of the H + 2G head rows). Block: 128 threads. With norms, 16 threads first sum the squares of
// each row (head-norm.cuh); then the work is one list of items, each 16 bytes' worth of pairs of a query or key row, or of
// a value row's elements. The second reading of a row comes from L1.
// Bound by DRAM at prefill: 2·T·(H + 2G)·D·sizeof bytes. At decode (T = 1, H = 32, G = 8) six blocks and one launch.
// Shared memory 1 KB. Registers: 32 to 60.
// Variants: dtype.
#include "../common/launch.cuh"
#include "head-norm.cuh"
#include "paged-cache.cuh"

struct Rows {
  scalar_t* query_out;
  const scalar_t *query, *key, *value;
  scalar_t *key_cache, *value_cache;
  i32 slot;
  i32 heads, kv_heads, head_dim, rotary_dim;

  // Rows are numbered queries first, then keys, then values.
  __device__ __forceinline__ bool is_query(int row) const { return row < heads; }
  __device__ __forceinline__ bool is_value(int row) const { return row >= heads + kv_heads; }
  __device__ __forceinline__ const scalar_t* source(int row) const {
    if (is_query(row)) return query + row * head_dim;
    return is_value(row) ? value + (row - heads - kv_heads) * head_dim : key + (row - heads) * head_dim;
  }
  // Null for a key or value that is not stored.
  __device__ __forceinline__ scalar_t* target(int row) const {
    if (is_query(row)) return query_out + row * head_dim;
    if (slot < 0) return nullptr;
    const int g = (row - heads) % kv_heads;
    return (is_value(row) ? value_cache : key_cache) + cache_row(slot, g, kv_heads, head_dim);
  }
};

// N elements a piece. `inverse` [HEADS_PER_BLOCK] is shared memory for what the rows are multiplied with.
template <int N, bool NORMED>
__device__ __forceinline__ void move_rows(const Rows& r, const AngleTable& table, const HeadNorms& norms, float* inverse, int first, int count) {
  if constexpr (NORMED) {
    const int own = threadIdx.x / NORM_THREADS;
    const bool has_norm = own < count && !r.is_value(first + own);
    const float mine = inverse_rms<N>(has_norm ? r.source(first + own) : nullptr, r.head_dim, norms.eps);
    if (threadIdx.x % NORM_THREADS == 0) inverse[own] = mine;
  }
  __syncthreads(); // also the angles; and query_out may be query, which is written from here on
  const int turned_items = row_items<N>(r.head_dim, r.rotary_dim), copied_items = r.head_dim / N;
#pragma unroll 1
  for (int n = threadIdx.x; n < count * copied_items; n += ROPE_THREADS) {
    const int own = n / copied_items, row = first + own, item = n % copied_items;
    const scalar_t* x = r.source(row);
    scalar_t* out = r.target(row);
    if (!out) continue;
    if (r.is_value(row)) {
      rotate_item<N>(out, x, table, item, 0);
      continue;
    }
    // A turned row has fewer items than a copied one, for each turns two pieces.
    if (item >= turned_items) continue;
    if constexpr (NORMED) {
      const Normalize normalize = {inverse[own], r.is_query(row) ? norms.query : norms.key, norms.weight_offset};
      rotate_item<N>(out, x, table, item, r.rotary_dim, normalize);
    } else {
      rotate_item<N>(out, x, table, item, r.rotary_dim);
    }
  }
}

extern "C" __global__ void __launch_bounds__(ROPE_THREADS)
KERNEL_NAME(scalar_t* query_out, const scalar_t* query, const scalar_t* key, const scalar_t* value, scalar_t* key_cache,
            scalar_t* value_cache, i64 query_out_stride, i64 query_stride, i64 key_stride, i64 value_stride,
            const i32* slots, const i32* positions, const float* frequencies, const i32* query_starts,
            const i32* sequence_lengths, i32 sequences, float dynamic_factor, i32 trained_context, float attention_scale,
            i32 heads, i32 kv_heads, i32 head_dim, i32 rotary_dim, const scalar_t* query_norm, const scalar_t* key_norm,
            float norm_eps, float norm_offset, i32 settled) {
  __shared__ AngleTable table;
  __shared__ float inverse[HEADS_PER_BLOCK];
  const i64 token = blockIdx.x;
  allow_next();
  // Every layer has weights of its own, which the last step's other layers have driven out of L2.
  if (query_norm) prefetch_norms(query_norm, key_norm, head_dim);
  if (!settled) wait_for_previous();
  fill_angles(table, {positions, frequencies, query_starts, sequence_lengths, sequences, dynamic_factor, trained_context, attention_scale, rotary_dim}, token);
  const Rows rows = {query_out + token * query_out_stride, query + token * query_stride, key + token * key_stride,
                     value + token * value_stride, key_cache, value_cache, slots[token],
                     heads, kv_heads, head_dim, rotary_dim};
  if (settled) wait_for_previous();
  const HeadNorms norms = {query_norm, key_norm, norm_eps, norm_offset};

  const int first = blockIdx.y * HEADS_PER_BLOCK;
  const int count = min(HEADS_PER_BLOCK, heads + 2 * kv_heads - first);
  const i64 strides = query_out_stride | query_stride | key_stride | value_stride;
  const u64 addresses = u64(query_out) | u64(query) | u64(key) | u64(value) | u64(key_cache) | u64(value_cache) |
                        u64(query_norm) | u64(key_norm);
  const bool vectors = is_vectorable(head_dim, rotary_dim, strides, addresses);
  if (query_norm) {
    if (vectors) move_rows<VEC, true>(rows, table, norms, inverse, first, count);
    else move_rows<1, true>(rows, table, norms, inverse, first, count);
  } else {
    if (vectors) move_rows<VEC, false>(rows, table, norms, inverse, first, count);
    else move_rows<1, false>(rows, table, norms, inverse, first, count);
  }
}
