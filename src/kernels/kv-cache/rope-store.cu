// rope_store: turns the queries and keys of new tokens by their positions and stores keys and values in the paged cache.
// One launch where rope of q, rope of k and two scattered copies would be four; a fused QKV row is read once.
//
// query [T, H, D], key and value [T, G, D] with a row stride each; caches [blocks, G, 16, D]; slots [T], -1 to store
// nothing. query_out may be query. Turning is as in rope (rotation.cuh); rotary_dim 0 only stores.
// Grid: (token, group of 8 of the H + 2G head rows). Block: 128 threads; the work is one list of items, each 16 bytes'
// worth of pairs of a query or key row, or of a value row's elements.
// Bound by DRAM at prefill: 2·T·(H + 2G)·D·sizeof bytes. At decode (T = 1, H = 32, G = 8) six blocks and one launch.
// Shared memory 1 KB. Registers: 32 to 60.
// Variants: dtype.
#include "../common/launch.cuh"
#include "../rope/rotation.cuh"
#include "paged-cache.cuh"

struct Rows {
  scalar_t* query_out;
  const scalar_t *query, *key, *value;
  scalar_t *key_cache, *value_cache;
  i32 slot;
  i32 heads, kv_heads, head_dim, rotary_dim;
};

// Rows are numbered queries first, then keys, then values.
template <int N>
__device__ __forceinline__ void move_rows(const Rows& r, const AngleTable& table, int first, int count) {
  const int turned_items = row_items<N>(r.head_dim, r.rotary_dim), copied_items = r.head_dim / N;
#pragma unroll 1
  for (int n = threadIdx.x; n < count * copied_items; n += ROPE_THREADS) {
    const int row = first + n / copied_items, item = n % copied_items;
    const scalar_t* x;
    scalar_t* out;
    int rotary_dim = r.rotary_dim;
    if (row < r.heads) {
      x = r.query + row * r.head_dim;
      out = r.query_out + row * r.head_dim;
    } else {
      if (r.slot < 0) continue;
      const bool is_key = row < r.heads + r.kv_heads;
      const int g = row - r.heads - (is_key ? 0 : r.kv_heads);
      x = (is_key ? r.key : r.value) + g * r.head_dim;
      out = (is_key ? r.key_cache : r.value_cache) + cache_row(r.slot, g, r.kv_heads, r.head_dim);
      if (!is_key) rotary_dim = 0;
    }
    // A turned row has fewer items than a copied one, for each turns two pieces.
    if (item < (rotary_dim ? turned_items : copied_items)) rotate_item<N>(out, x, table, item, rotary_dim);
  }
}

extern "C" __global__ void __launch_bounds__(ROPE_THREADS)
KERNEL_NAME(scalar_t* query_out, const scalar_t* query, const scalar_t* key, const scalar_t* value, scalar_t* key_cache,
            scalar_t* value_cache, i64 query_out_stride, i64 query_stride, i64 key_stride, i64 value_stride,
            const i32* slots, const i32* positions, const float* frequencies, const i32* query_starts,
            const i32* context_lengths, i32 sequences, float dynamic_factor, i32 trained_context, float attention_scale,
            i32 heads, i32 kv_heads, i32 head_dim, i32 rotary_dim) {
  __shared__ AngleTable table;
  const i64 token = blockIdx.x;
  allow_next();
  wait_for_previous();
  fill_angles(table, {positions, frequencies, query_starts, context_lengths, sequences, dynamic_factor, trained_context, attention_scale, rotary_dim}, token);
  const Rows rows = {query_out + token * query_out_stride, query + token * query_stride, key + token * key_stride,
                     value + token * value_stride, key_cache, value_cache, slots[token],
                     heads, kv_heads, head_dim, rotary_dim};
  __syncthreads();

  const int first = blockIdx.y * HEADS_PER_BLOCK;
  const int count = min(HEADS_PER_BLOCK, heads + 2 * kv_heads - first);
  const i64 strides = query_out_stride | query_stride | key_stride | value_stride;
  const u64 addresses = u64(query_out) | u64(query) | u64(key) | u64(value) | u64(key_cache) | u64(value_cache);
  if (is_vectorable(head_dim, rotary_dim, strides, addresses)) move_rows<VEC>(rows, table, first, count);
  else move_rows<1>(rows, table, first, count);
}
