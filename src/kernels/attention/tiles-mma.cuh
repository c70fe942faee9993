// The tiled path on tensor cores (mma.sync m16n8k16, sm_80 and newer): 64 query rows, four warps of 16 rows each.
//
// Q, K and V tiles lie in shared memory as they are in memory, 16 bits an element. cp.async brings K of the next step while
// the softmax and P·V of this one run, and V of the next while its scores are computed. Scores and weights never leave
// registers: the accumulator layout of Q·Kᵀ is the operand layout of P·V. Rows of a tile are a multiple of 128 bytes, so
// the 16-byte pieces of row r are stored at piece ^ (r % 8): eight rows at one column then lie in different banks.
#pragma once
#include "tile.cuh"

// ---- one instruction each ------------------------------------------------------------------------------------------

__device__ __forceinline__ u32 shared_address(const void* p) { return u32(__cvta_generic_to_shared(p)); }

// 16 bytes to shared memory in the background; zeros when the source does not exist.
__device__ __forceinline__ void copy_async(u32 to, const void* from, bool exists) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(__cvta_generic_to_global(from)), "r"(exists ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits for all groups of copies but the last.
__device__ __forceinline__ void wait_all_but_last() { asm volatile("cp.async.wait_group 1;" ::: "memory"); }

// Four 8x8 matrices of 16-bit elements; each lane gives the address of one row.
__device__ __forceinline__ void load_matrices(u32 (&r)[4], u32 address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}
__device__ __forceinline__ void load_matrices_transposed(u32 (&r)[4], u32 address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

// c [16, 8] += a [16, 16] · b [16, 8]
__device__ __forceinline__ void multiply_add(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  if constexpr (is_same<scalar_t, bf16>) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

// Two floats in one register, the first in the low half.
__device__ __forceinline__ u32 pack2(float low, float high) {
  u32 r;
  if constexpr (is_same<scalar_t, bf16>) asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  else asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}

__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(WARP, x, 1));
  return fmaxf(x, __shfl_xor_sync(WARP, x, 2));
}
__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(WARP, x, 1);
  return x + __shfl_xor_sync(WARP, x, 2);
}

// ---- the tile ------------------------------------------------------------------------------------------------------

template <int WIDTH>
struct MmaTile {
  static constexpr int ROWS = 64, KEYS = WIDTH == 256 ? 32 : 64;
  static constexpr int PIECES = WIDTH / 8;              // of 16 bytes in a row
  static constexpr int DEPTH = WIDTH / 16;              // products along the head dim
  static constexpr int KEY_TILES = KEYS / 8, VALUE_TILES = WIDTH / 8;
  static constexpr bool HOLD_QUERIES = WIDTH <= 128;    // in registers; wider heads need those for the output

  const TileArgs& a;
  u32 queries, keys, values; // shared memory
  int warp, lane;

  __device__ __forceinline__ MmaTile(const TileArgs& args, void* shared)
      : a(args), queries(shared_address(shared)), keys(queries + ROWS * WIDTH * 2), values(keys + KEYS * WIDTH * 2),
        warp(threadIdx.x / 32), lane(threadIdx.x % 32) {}

  static __device__ __forceinline__ u32 piece_address(u32 tile, int row, int piece) {
    return tile + row * (WIDTH * 2) + ((piece ^ (row & 7)) * 16);
  }

  __device__ __forceinline__ void load_queries() {
    const int piece = threadIdx.x % PIECES;
    for (int r = threadIdx.x / PIECES; r < ROWS; r += TILE_THREADS / PIECES) {
      const bool exists = piece * 8 < a.head_dim;
      copy_async(piece_address(queries, r, piece), exists ? a.query_row(r) + piece * 8 : a.query, exists);
    }
  }

  // Rows from `end` on become zeros and are not read: a weight of zero times what lies there might be NaN.
  __device__ __forceinline__ void load_cache(u32 tile, const scalar_t* cache, i32 first, i32 end) {
    const int piece = threadIdx.x % PIECES;
#pragma unroll
    for (int r = threadIdx.x / PIECES; r < KEYS; r += TILE_THREADS / PIECES) {
      const bool exists = first + r < end && piece * 8 < a.head_dim;
      const scalar_t* from = cache;
      if (exists) from += cache_row_at(a.blocks, first + r, a.g, a.kv_heads, a.head_dim) + piece * 8;
      copy_async(piece_address(tile, r, piece), from, exists);
    }
  }

  // Lanes 0-15 address rows 0-15 at the first eight columns, lanes 16-31 the same rows at the next eight.
  __device__ __forceinline__ void query_operand(u32 (&q)[4], int depth) {
    load_matrices(q, piece_address(queries, warp * 16 + lane % 16, depth * 2 + lane / 16));
  }

  __device__ __forceinline__ void compute_scores(float (&score)[KEY_TILES][4], const u32 (&held)[HOLD_QUERIES ? DEPTH : 1][4]) {
#pragma unroll
    for (int n = 0; n < KEY_TILES; n++) {
#pragma unroll
      for (int e = 0; e < 4; e++) score[n][e] = 0.0f;
    }
#pragma unroll
    for (int depth = 0; depth < DEPTH; depth++) {
      u32 q[4];
      if constexpr (HOLD_QUERIES) {
#pragma unroll
        for (int e = 0; e < 4; e++) q[e] = held[depth][e];
      } else {
        query_operand(q, depth);
      }
#pragma unroll
      for (int n = 0; n < KEY_TILES; n += 2) {
        // Keys 8n … 8n + 15: lanes in eights address (first 8 keys, first 8 columns), (first, second), (second, first), …
        u32 k[4];
        load_matrices(k, piece_address(keys, n * 8 + lane % 8 + lane / 16 * 8, depth * 2 + lane / 8 % 2));
        multiply_add(score[n], q, k[0], k[1]);
        multiply_add(score[n + 1], q, k[2], k[3]);
      }
    }
  }

  __device__ __forceinline__ void add_values(float (&output)[VALUE_TILES][4], const float (&weight)[KEY_TILES][4]) {
#pragma unroll
    for (int n = 0; n < KEY_TILES; n += 2) {
      const u32 p[4] = {pack2(weight[n][0], weight[n][1]), pack2(weight[n][2], weight[n][3]),
                        pack2(weight[n + 1][0], weight[n + 1][1]), pack2(weight[n + 1][2], weight[n + 1][3])};
#pragma unroll
      for (int m = 0; m < VALUE_TILES; m += 2) {
        u32 v[4];
        load_matrices_transposed(v, piece_address(values, n * 8 + lane % 16, m + lane / 16));
        multiply_add(output[m], p, v[0], v[1]);
        multiply_add(output[m + 1], p, v[2], v[3]);
      }
    }
  }

  __device__ __forceinline__ void run() {
    const ScoreScale score_of(a.scale, a.softcap);
    const i32 begin = a.begin(), end = a.end(ROWS);

    load_queries();
    load_cache(keys, a.key_cache, begin, end);
    commit_copies();
    load_cache(values, a.value_cache, begin, end);
    commit_copies();

    // A thread holds two rows of its warp's sixteen, and of each eight columns the pair 2·(lane % 4).
    i32 oldest[2], last[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const i32 token = a.token_of(warp * 16 + lane / 4 + half * 8);
      oldest[half] = a.seq.first_key(token);
      last[half] = a.seq.first_position() + token;
    }
    // Steps of which every row of the warp sees every key need no masking.
    const i32 all_see_from = a.seq.first_key(a.token_of(warp * 16 + 15));
    const i32 all_see_to = a.seq.first_position() + a.token_of(warp * 16);

    float output[VALUE_TILES][4];
#pragma unroll
    for (int m = 0; m < VALUE_TILES; m++) {
#pragma unroll
      for (int e = 0; e < 4; e++) output[m][e] = 0.0f;
    }
    float maximum[2] = {LOWEST, LOWEST}, sum[2] = {0.0f, 0.0f};
    u32 held[HOLD_QUERIES ? DEPTH : 1][4];

    for (i32 first = begin; first < end; first += KEYS) {
      // ---- scores ----
      wait_all_but_last(); // K (and Q) of this step; V may be on its way
      __syncthreads();
      if constexpr (HOLD_QUERIES) {
        if (first == begin) {
#pragma unroll
          for (int depth = 0; depth < DEPTH; depth++) query_operand(held[depth], depth);
        }
      }
      float score[KEY_TILES][4];
      compute_scores(score, held);
      __syncthreads();
      if (first + KEYS < end) load_cache(keys, a.key_cache, first + KEYS, end);
      commit_copies();

      // ---- softmax ----
      const bool needs_mask = first + KEYS - 1 > all_see_to || first < all_see_from;
      score_of(score);
      if (needs_mask) {
#pragma unroll
        for (int n = 0; n < KEY_TILES; n++) {
#pragma unroll
          for (int e = 0; e < 4; e++) {
            const i32 position = first + n * 8 + lane % 4 * 2 + e % 2;
            const bool is_seen = position >= oldest[e / 2] && position <= last[e / 2];
            score[n][e] = is_seen ? score[n][e] : MINUS_INFINITY;
          }
        }
      }
#pragma unroll
      for (int half = 0; half < 2; half++) {
        float highest = maximum[half];
#pragma unroll
        for (int n = 0; n < KEY_TILES; n++) highest = fmaxf(highest, fmaxf(score[n][half * 2], score[n][half * 2 + 1]));
        highest = quad_max(highest);
        const float shrink = exp2_fast(maximum[half] - highest);
        maximum[half] = highest;
        float added = 0.0f;
#pragma unroll
        for (int n = 0; n < KEY_TILES; n++) {
#pragma unroll
          for (int e = half * 2; e < half * 2 + 2; e++) {
            score[n][e] = exp2_fast(score[n][e] - highest);
            added += score[n][e];
          }
        }
        sum[half] = sum[half] * shrink + added; // of this thread's columns; the quad's are added up at the end
#pragma unroll
        for (int m = 0; m < VALUE_TILES; m++) {
          output[m][half * 2] *= shrink;
          output[m][half * 2 + 1] *= shrink;
        }
      }

      // ---- values ----
      wait_all_but_last(); // V of this step
      __syncthreads();
      add_values(output, score);
      __syncthreads();
      if (first + KEYS < end) load_cache(values, a.value_cache, first + KEYS, end);
      commit_copies();
    }

#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int r = warp * 16 + lane / 4 + half * 8;
      const float inverse = 1.0f / quad_sum(sum[half]);
      if (!a.has_row(r)) continue;
      scalar_t* to = a.out_row(r) + lane % 4 * 2;
#pragma unroll
      for (int m = 0; m < VALUE_TILES; m++) {
        if (m * 8 >= a.head_dim) break;
        *reinterpret_cast<u32*>(to + m * 8) = pack2(output[m][half * 2] * inverse, output[m][half * 2 + 1] * inverse);
      }
    }
  }
};
