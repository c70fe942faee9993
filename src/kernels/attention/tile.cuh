// A tile of the tiled path: ROWS query rows (new token, head of the group) of one sequence and one key/value head. Rows of
// a tile share their keys, so heads of a group are packed side by side: row n is head n % group of new token n / group.
#pragma once
#include "attention.cuh"

inline constexpr int TILE_THREADS = 128;

struct TileArgs {
  scalar_t* out;
  const scalar_t *query, *key_cache, *value_cache;
  const i32* blocks; // this sequence's row of the block table
  i64 query_stride;
  i32 heads, kv_heads, head_dim;
  float scale, softcap;
  Sequence seq;
  i32 g;         // key/value head
  i32 first_row; // of the tile
  i32 rows;      // of the whole sequence: queries * group

  __device__ __forceinline__ i32 group() const { return heads / kv_heads; }
  // New token and head of row r of the tile. Rows past the last repeat it, and are not stored.
  __device__ __forceinline__ i32 token_of(i32 r) const { return min(first_row + r, rows - 1) / group(); }
  __device__ __forceinline__ i32 head_of(i32 r) const { return g * group() + min(first_row + r, rows - 1) % group(); }
  __device__ __forceinline__ const scalar_t* query_row(i32 r) const {
    return query + (seq.first_token + token_of(r)) * query_stride + head_of(r) * head_dim;
  }
  __device__ __forceinline__ scalar_t* out_row(i32 r) const {
    return out + (i64(seq.first_token + token_of(r)) * heads + head_of(r)) * head_dim;
  }
  __device__ __forceinline__ bool has_row(i32 r) const { return first_row + r < rows; }
  // The keys that any row of the tile sees: [begin, end). No other is read.
  __device__ __forceinline__ i32 begin() const { return seq.first_key(token_of(0)); }
  __device__ __forceinline__ i32 end(i32 tile_rows) const { return seq.first_position() + token_of(tile_rows - 1) + 1; }
};
