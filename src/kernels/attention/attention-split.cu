// attention_split: attention of few new tokens over a long context, a chunk of the context at a time.
//
// One block serves ROWS query rows (new token, head of the group) of one key/value head over one chunk, so a key and a
// value are read from memory once for all heads that share them. It leaves for each row the chunk's maximum score m, the
// sum l of 2^(score - m), and the sum of 2^(score - m) · v; attention_combine joins the chunks.
//
//   query [T, H, D] (row stride), caches [blocks, G, 16, D], partial [B, queries, H, splits, D] f32, stats [.., 2] f32
//   Grid: (B · splits, G · row tiles). Block: 128 threads. D % 8 == 0, D <= 256.
//   Sequences with more than 8 new tokens, and chunks past a context, leave at once: the grid is an upper bound.
//
// Threads: LANES = D/8 rounded up to a power of two share one key, each holding 8 of its elements; a warp works on
// 32/LANES keys at once and loads KEYS of each thread's before it uses the first, which keeps 2·KEYS·512 bytes per warp in
// flight. Every key slot of a warp runs its own online softmax without any barrier; they are merged once at the end, by
// shuffles inside a warp and through shared memory between warps.
// The running sums are corrected for a new maximum once per KEYS keys (online softmax, arXiv 1805.02867).
//
// Traffic: each visible K and V row once per row tile (2·S·G·D·sizeof in all; further tiles of one head find them in L2),
// plus (D + 2)·4 bytes of results per row and chunk. Arithmetic, per row and key on the CUDA cores: 2·D multiply-adds and
// the shuffles of one sum. One to four rows should be bound by DRAM, eight are near the balance of a recent GPU.
// Shared memory: 4 warps · ROWS · (D + 2) floats, 33 KB at most. Registers (f16, bf16, f32): rows 1: 80, 106, 108;
// rows 4: 155, 168, 146; rows 8: 230, 247, 248; no spills.
// Variants: dtype; rows {1, 4, 8}, for multi-head, and for groups of up to four and more heads: rows sit in registers.
#include "attention.cuh"

inline constexpr int ROWS = VARIANT_ROWS;
inline constexpr int WARPS = 4;
inline constexpr int ELEMENTS = 8;              // of a head row, per thread
inline constexpr int KEYS = ROWS == 8 || (ROWS > 1 && is_same<scalar_t, f32>) ? 2 : 4; // loaded ahead, per thread
// Blocks that a multiprocessor should hold at once: caps registers at 128, 168 and 255.
inline constexpr int RESIDENT = ROWS == 1 ? 4 : ROWS == 4 ? 3 : 2;

// Eight elements as they are in memory: 16 bytes, or 32 for float32.
struct Raw8 {
  Vec<scalar_t> part[ELEMENTS / VEC];
};
__device__ __forceinline__ Raw8 load8(const scalar_t* p) {
  Raw8 r;
#pragma unroll
  for (int i = 0; i < ELEMENTS / VEC; i++) r.part[i] = load_vec(p + i * VEC);
  return r;
}
__device__ __forceinline__ float element(const Raw8& r, int i) { return to_float(r.part[i / VEC].v[i % VEC]); }

// Running softmax of the rows over the keys that a thread has seen, and its eight columns of the weighted values.
struct Running {
  float maximum[ROWS], sum[ROWS], values[ROWS][ELEMENTS];
};

extern "C" __global__ void __launch_bounds__(WARPS * 32, RESIDENT)
KERNEL_NAME(float* partial, float* stats, const scalar_t* query, const scalar_t* key_cache, const scalar_t* value_cache,
            const i32* query_starts, const i32* context_lengths, const i32* block_table, i64 query_stride,
            i32 max_blocks, i32 heads, i32 kv_heads, i32 head_dim, i32 splits, i32 queries, i32 window, float scale,
            float softcap) {
  extern __shared__ float merge[]; // [WARPS][ROWS][head_dim + 2]
  allow_next();
  wait_for_previous();

  // ---- which part of the work this is -------------------------------------------------------------------------------
  const i32 b = blockIdx.x / splits, split = blockIdx.x % splits;
  const Sequence seq = load_sequence(b, query_starts, context_lengths, window);
  if (seq.queries == 0 || seq.queries > FEW_QUERIES) return;
  const Chunks chunks = divide_context(seq);
  if (split >= chunks.count) return;
  const i32 group = heads / kv_heads;
  const i32 g = blockIdx.y % kv_heads, first_row = blockIdx.y / kv_heads * ROWS;
  const i32 rows = seq.queries * group - first_row; // those of this tile and later ones
  if (rows <= 0) return;
  const i32 begin = chunks.begin + split * chunks.tokens;
  const i32 end = min(begin + chunks.tokens, seq.context);

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int pieces = head_dim / ELEMENTS;
  int lanes = 1;
  while (lanes < pieces) lanes *= 2;
  const int piece = lane % lanes;
  const bool has_piece = piece < pieces;
  const int keys_per_warp = 32 / lanes;

  // ---- the queries, scaled ------------------------------------------------------------------------------------------
  const ScoreScale score_of(scale, softcap);
  const u32 seen = window > 0 ? window : 0x7fffffffu; // keys that a row sees
  float q[ROWS][ELEMENTS];
  i32 last_key[ROWS];
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
    const i32 row = first_row + (r < rows ? r : 0); // rows past the end repeat the first and are not stored
    const i32 i = row / group, head = g * group + row % group;
    last_key[r] = seq.first_position() + i;
    Raw8 raw = {};
    if (has_piece) raw = load8(query + (seq.first_token + i) * query_stride + head * head_dim + piece * ELEMENTS);
#pragma unroll
    for (int e = 0; e < ELEMENTS; e++) q[r][e] = element(raw, e);
  }

  Running run;
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
    run.maximum[r] = LOWEST;
    run.sum[r] = 0.0f;
#pragma unroll
    for (int e = 0; e < ELEMENTS; e++) run.values[r][e] = 0.0f;
  }

  // ---- stream the chunk ---------------------------------------------------------------------------------------------
  const i32* blocks = block_table + i64(b) * max_blocks;
  const int step = WARPS * KEYS * keys_per_warp;
  for (i32 base = begin + warp * KEYS * keys_per_warp + lane / lanes; base - lane / lanes < end; base += step) {
    // Keys outside the chunk are not read: what lies there may be another's, or nothing.
    Raw8 k[KEYS], v[KEYS];
#pragma unroll
    for (int j = 0; j < KEYS; j++) {
      const i32 position = base + j * keys_per_warp;
      k[j] = {};
      v[j] = {};
      if (position < end && has_piece) {
        const i64 at = cache_row_at(blocks, position, g, kv_heads, head_dim) + piece * ELEMENTS;
        k[j] = load8(key_cache + at);
        v[j] = load8(value_cache + at);
      }
    }
    float score[ROWS][KEYS];
#pragma unroll
    for (int j = 0; j < KEYS; j++) {
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        float dot = 0.0f;
#pragma unroll
        for (int e = 0; e < ELEMENTS; e++) dot = fmaf(q[r][e], element(k[j], e), dot);
        score[r][j] = dot;
      }
    }
    // Each of the threads that share a key gets the sum. A loop over the distances, not over the sums: those of one
    // distance do not wait for each other, and the driver has a fifth of the shuffles to compile.
#pragma unroll 1
    for (int offset = lanes / 2; offset > 0; offset /= 2) {
#pragma unroll
      for (int j = 0; j < KEYS; j++) {
#pragma unroll
        for (int r = 0; r < ROWS; r++) score[r][j] += __shfl_xor_sync(WARP, score[r][j], offset);
      }
    }
    score_of(score);
#pragma unroll
    for (int j = 0; j < KEYS; j++) {
      const i32 position = base + j * keys_per_warp;
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        // One unsigned comparison: a key after the row's own position is a huge distance before it.
        const bool is_seen = position < end && u32(last_key[r] - position) < seen;
        score[r][j] = is_seen ? score[r][j] : MINUS_INFINITY;
      }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      float maximum = run.maximum[r];
#pragma unroll
      for (int j = 0; j < KEYS; j++) maximum = fmaxf(maximum, score[r][j]);
      const float keep = exp2_fast(run.maximum[r] - maximum);
      run.maximum[r] = maximum;
      run.sum[r] *= keep;
#pragma unroll
      for (int e = 0; e < ELEMENTS; e++) run.values[r][e] *= keep;
#pragma unroll
      for (int j = 0; j < KEYS; j++) {
        score[r][j] = exp2_fast(score[r][j] - maximum);
        run.sum[r] += score[r][j];
      }
    }
    // Keys outside, rows inside: one value at a time is converted to float32.
#pragma unroll
    for (int j = 0; j < KEYS; j++) {
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
#pragma unroll
        for (int e = 0; e < ELEMENTS; e++) {
          run.values[r][e] = fmaf(score[r][j], element(v[j], e), run.values[r][e]);
        }
      }
    }
  }

  // ---- merge the key slots of a warp: after this every lane has the sums of its eight columns over all of them ---------
#pragma unroll 1
  for (int offset = lanes; offset < 32; offset *= 2) {
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      const float other = __shfl_xor_sync(WARP, run.maximum[r], offset);
      const float maximum = fmaxf(run.maximum[r], other);
      const float mine = exp2_fast(run.maximum[r] - maximum), theirs = exp2_fast(other - maximum);
      run.maximum[r] = maximum;
      run.sum[r] = run.sum[r] * mine + __shfl_xor_sync(WARP, run.sum[r], offset) * theirs;
#pragma unroll
      for (int e = 0; e < ELEMENTS; e++) {
        run.values[r][e] = run.values[r][e] * mine + __shfl_xor_sync(WARP, run.values[r][e], offset) * theirs;
      }
    }
  }

  // ---- merge the warps and store ------------------------------------------------------------------------------------
  const int width = head_dim + 2;
  if (lane < lanes && has_piece) {
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      float* row = merge + (warp * ROWS + r) * width;
#pragma unroll
      for (int e = 0; e < ELEMENTS; e++) row[piece * ELEMENTS + e] = run.values[r][e];
      if (piece == 0) {
        row[head_dim] = run.maximum[r];
        row[head_dim + 1] = run.sum[r];
      }
    }
  }
  __syncthreads();
#pragma unroll 1
  for (int n = threadIdx.x; n < min(ROWS, rows) * head_dim; n += WARPS * 32) {
    const int r = n / head_dim, column = n - r * head_dim;
    const float* row = merge + r * width;
    float maximum = row[head_dim];
#pragma unroll
    for (int w = 1; w < WARPS; w++) maximum = fmaxf(maximum, row[w * ROWS * width + head_dim]);
    float sum = 0.0f, value = 0.0f;
#pragma unroll
    for (int w = 0; w < WARPS; w++) {
      const float* part = row + w * ROWS * width;
      const float weight = exp2_fast(part[head_dim] - maximum);
      sum = fmaf(weight, part[head_dim + 1], sum);
      value = fmaf(weight, part[column], value);
    }
    const i32 i = (first_row + r) / group, head = g * group + (first_row + r) % group;
    const i64 at = ((i64(b) * queries + i) * heads + head) * splits + split;
    partial[at * head_dim + column] = value;
    if (column == 0) {
      stats[at * 2] = maximum;
      stats[at * 2 + 1] = sum;
    }
  }
}
