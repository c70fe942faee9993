// Where a token's keys and values lie in a paged cache [blocks, G, 16, D].
#pragma once
#include "../common/types.cuh"

// cacheBlockTokens in kv-cache.ts.
inline constexpr int CACHE_BLOCK = 16;

// First element of the row of key/value head g in slot `slot` = block * 16 + offset.
__device__ __forceinline__ i64 cache_row(i32 slot, i32 g, i32 kv_heads, i32 head_dim) {
  const u32 block = u32(slot) / CACHE_BLOCK, offset = u32(slot) % CACHE_BLOCK;
  return ((i64(block) * kv_heads + g) * CACHE_BLOCK + offset) * head_dim;
}

// The same for the token at `position` of the sequence whose row of the block table this is.
__device__ __forceinline__ i64 cache_row_at(const i32* blocks, i32 position, i32 g, i32 kv_heads, i32 head_dim) {
  const u32 offset = u32(position) % CACHE_BLOCK;
  const i32 block = __ldg(blocks + u32(position) / CACHE_BLOCK);
  return ((i64(block) * kv_heads + g) * CACHE_BLOCK + offset) * head_dim;
}
