// The tiled path on the CUDA cores: every target, and float32. Tiles lie in shared memory as float32.
//
// Per step of KEYS keys, with a barrier after each phase:
//   1. K tile in.  2. Scores: each thread SCORE_ROWS x SCORE_KEYS of them.  3. Softmax: 128/ROWS threads per row; V tile
//   takes K's place.  4. Each thread adds 4 rows x 8 columns of P·V to its registers.
// Rows are padded by four floats, so that the eight or sixteen threads that read different rows at one column meet
// different banks.
#pragma once
#include "tile.cuh"

template <int WIDTH>
struct SimtShape;
template <>
struct SimtShape<64> {
  static constexpr int ROWS = 64, KEYS = 32, SCORE_ROWS = 4, SCORE_KEYS = 4;
};
template <>
struct SimtShape<128> {
  static constexpr int ROWS = 32, KEYS = 32, SCORE_ROWS = 4, SCORE_KEYS = 2;
};
template <>
struct SimtShape<256> {
  static constexpr int ROWS = 16, KEYS = 16, SCORE_ROWS = 2, SCORE_KEYS = 1;
};

__device__ __forceinline__ float4 read4(const float* p) { return *reinterpret_cast<const float4*>(p); }

// Eight elements of a row to float32 in shared memory, or zeros.
__device__ __forceinline__ void stage8(float* to, const scalar_t* from, bool exists) {
  float x[8] = {};
  if (exists) {
#pragma unroll
    for (int i = 0; i < 8; i += VEC) {
      const vec_t part = load_vec(from + i);
#pragma unroll
      for (int e = 0; e < VEC; e++) x[i + e] = to_float(part[e]);
    }
  }
  *reinterpret_cast<float4*>(to) = make_float4(x[0], x[1], x[2], x[3]);
  *reinterpret_cast<float4*>(to + 4) = make_float4(x[4], x[5], x[6], x[7]);
}

template <int WIDTH>
struct SimtTile {
  using Shape = SimtShape<WIDTH>;
  static constexpr int ROWS = Shape::ROWS, KEYS = Shape::KEYS;
  static constexpr int STRIDE = WIDTH + 4, SCORE_STRIDE = KEYS + 4;
  static constexpr int PIECES = WIDTH / 8;
  static constexpr int ROW_THREADS = TILE_THREADS / ROWS; // of a row's softmax
  static_assert(ROWS * KEYS == TILE_THREADS * Shape::SCORE_ROWS * Shape::SCORE_KEYS, "scores cover the tile");
  static_assert(ROWS * WIDTH == TILE_THREADS * 32, "4 x 8 outputs per thread cover the tile");

  const TileArgs& a;
  float *queries, *keys, *scores, *keep;

  __device__ __forceinline__ SimtTile(const TileArgs& args, float* shared)
      : a(args), queries(shared), keys(shared + ROWS * STRIDE), scores(keys + KEYS * STRIDE), keep(scores + ROWS * SCORE_STRIDE) {}

  __device__ __forceinline__ void load_queries() {
    for (int n = threadIdx.x; n < ROWS * PIECES; n += TILE_THREADS) {
      const int r = n / PIECES, piece = n % PIECES;
      stage8(queries + r * STRIDE + piece * 8, a.query_row(r) + piece * 8, piece * 8 < a.head_dim);
    }
  }

  // KEYS rows of a cache from `first` on; rows from `end` on are zeros, and are not read.
  __device__ __forceinline__ void load_cache(const scalar_t* cache, i32 first, i32 end) {
    for (int n = threadIdx.x; n < KEYS * PIECES; n += TILE_THREADS) {
      const int r = n / PIECES, piece = n % PIECES;
      const bool exists = first + r < end && piece * 8 < a.head_dim;
      const scalar_t* from = exists ? cache + cache_row_at(a.blocks, first + r, a.g, a.kv_heads, a.head_dim) + piece * 8 : cache;
      stage8(keys + r * STRIDE + piece * 8, from, exists);
    }
  }

  __device__ __forceinline__ void compute_scores(i32 first, const ScoreScale& score_of) {
    constexpr int M = Shape::SCORE_ROWS, N = Shape::SCORE_KEYS, KEY_THREADS = KEYS / N;
    const int key = threadIdx.x % KEY_THREADS, row = threadIdx.x / KEY_THREADS * M;
    float dot[M][N] = {};
    for (int d = 0; d < a.head_dim; d += 4) {
      float4 q[M], k[N];
#pragma unroll
      for (int i = 0; i < M; i++) q[i] = read4(queries + (row + i) * STRIDE + d);
#pragma unroll
      for (int j = 0; j < N; j++) k[j] = read4(keys + (key + j * KEY_THREADS) * STRIDE + d);
#pragma unroll
      for (int i = 0; i < M; i++) {
#pragma unroll
        for (int j = 0; j < N; j++) {
          dot[i][j] = fmaf(q[i].x, k[j].x, dot[i][j]);
          dot[i][j] = fmaf(q[i].y, k[j].y, dot[i][j]);
          dot[i][j] = fmaf(q[i].z, k[j].z, dot[i][j]);
          dot[i][j] = fmaf(q[i].w, k[j].w, dot[i][j]);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < M; i++) {
      const i32 token = a.token_of(row + i);
      const i32 last = a.seq.first_position() + token, oldest = a.seq.first_key(token);
#pragma unroll
      for (int j = 0; j < N; j++) {
        const i32 position = first + key + j * KEY_THREADS;
        const bool is_seen = position >= oldest && position <= last;
        scores[(row + i) * SCORE_STRIDE + key + j * KEY_THREADS] = is_seen ? score_of(dot[i][j]) : MINUS_INFINITY;
      }
    }
  }

  // Turns a row's scores into weights and says in keep[] what the sums so far shrink by.
  __device__ __forceinline__ void update_softmax(float& maximum, float& sum) {
    constexpr int EACH = KEYS / ROW_THREADS;
    const int row = threadIdx.x / ROW_THREADS, part = threadIdx.x % ROW_THREADS;
    float* mine = scores + row * SCORE_STRIDE + part;
    float highest = maximum;
#pragma unroll
    for (int j = 0; j < EACH; j++) highest = fmaxf(highest, mine[j * ROW_THREADS]);
#pragma unroll
    for (int offset = ROW_THREADS / 2; offset > 0; offset /= 2) highest = fmaxf(highest, __shfl_xor_sync(WARP, highest, offset));
    float added = 0.0f;
#pragma unroll
    for (int j = 0; j < EACH; j++) {
      const float weight = exp2_fast(mine[j * ROW_THREADS] - highest);
      mine[j * ROW_THREADS] = weight;
      added += weight;
    }
#pragma unroll
    for (int offset = ROW_THREADS / 2; offset > 0; offset /= 2) added += __shfl_xor_sync(WARP, added, offset);
    const float shrink = exp2_fast(maximum - highest);
    sum = sum * shrink + added;
    maximum = highest;
    if (part == 0) keep[row] = shrink;
  }

  // values += P · V for rows 4·(thread / (WIDTH/8)) … and columns 4·(thread % (WIDTH/8)) …, both halves of the width.
  __device__ __forceinline__ void add_values(float (&values)[4][8], int row, int column) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const float shrink = keep[row + i];
#pragma unroll
      for (int e = 0; e < 8; e++) values[i][e] *= shrink;
    }
    for (int key = 0; key < KEYS; key += 4) {
      float weight[4][4];
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float4 w = read4(scores + (row + i) * SCORE_STRIDE + key);
        weight[i][0] = w.x;
        weight[i][1] = w.y;
        weight[i][2] = w.z;
        weight[i][3] = w.w;
      }
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const float4 low = read4(keys + (key + j) * STRIDE + column), high = read4(keys + (key + j) * STRIDE + column + WIDTH / 2);
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const float w = weight[i][j];
          values[i][0] = fmaf(w, low.x, values[i][0]);
          values[i][1] = fmaf(w, low.y, values[i][1]);
          values[i][2] = fmaf(w, low.z, values[i][2]);
          values[i][3] = fmaf(w, low.w, values[i][3]);
          values[i][4] = fmaf(w, high.x, values[i][4]);
          values[i][5] = fmaf(w, high.y, values[i][5]);
          values[i][6] = fmaf(w, high.z, values[i][6]);
          values[i][7] = fmaf(w, high.w, values[i][7]);
        }
      }
    }
  }

  __device__ __forceinline__ void run() {
    const ScoreScale score_of(a.scale, a.softcap);
    const int row = threadIdx.x / PIECES * 4, column = threadIdx.x % PIECES * 4;
    float values[4][8] = {};
    float maximum = LOWEST, sum = 0.0f; // of the row that this thread does the softmax of
    load_queries();
    const i32 end = a.end(ROWS);
    for (i32 first = a.begin(); first < end; first += KEYS) {
      load_cache(a.key_cache, first, end);
      __syncthreads();
      compute_scores(first, score_of);
      __syncthreads();
      load_cache(a.value_cache, first, end);
      update_softmax(maximum, sum);
      __syncthreads();
      add_values(values, row, column);
      __syncthreads();
    }
    if (threadIdx.x % ROW_THREADS == 0) keep[threadIdx.x / ROW_THREADS] = 1.0f / sum;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 4; i++) {
      if (!a.has_row(row + i)) continue;
      scalar_t* to = a.out_row(row + i);
#pragma unroll
      for (int e = 0; e < 8; e++) {
        const int c = column + e % 4 + e / 4 * (WIDTH / 2);
        if (c < a.head_dim) to[c] = from_float<scalar_t>(values[i][e] * keep[row + i]);
      }
    }
  }
};
