// What the attention kernels share: which keys a query sees, how contexts are divided, and the softmax in base 2.
#pragma once
#include "../common/launch.cuh"
#include "../kv-cache/paged-cache.cuh"

inline constexpr u32 WARP = 0xffffffffu;

// plan.ts has the same three numbers.
inline constexpr int FEW_QUERIES = 8;
inline constexpr int CHUNK_UNIT = 64;
inline constexpr int MAX_SPLITS = 64;

inline constexpr float LOG2E = 1.44269504f;
// Where a running maximum starts: finite, so that subtracting it from minus infinity is no NaN.
inline constexpr float LOWEST = -1e30f;
inline constexpr float MINUS_INFINITY = -__builtin_huge_valf();

// One sequence of the batch. New token i stands at position first_position + i and sees the keys
// (position - window, position], or all up to its position when window is 0.
struct Sequence {
  i32 first_token; // its first row in the batch
  i32 queries;     // new tokens
  i32 context;     // tokens that are visible after this step
  i32 window;

  __device__ __forceinline__ i32 first_position() const { return context - queries; }
  // First key that new token i sees.
  __device__ __forceinline__ i32 first_key(i32 i) const {
    return window > 0 ? max(0, first_position() + i - window + 1) : 0;
  }
};

__device__ __forceinline__ Sequence load_sequence(i32 b, const i32* query_starts, const i32* context_lengths, i32 window) {
  const i32 start = query_starts[b];
  return {start, query_starts[b + 1] - start, context_lengths[b], window};
}

// The split path's division of the keys that any new token of a sequence sees. It depends on this sequence alone.
struct Chunks {
  i32 begin, tokens, count; // chunk c is [begin + c * tokens, begin + (c + 1) * tokens), cut at the context
};
__device__ __forceinline__ Chunks divide_context(const Sequence& s) {
  const i32 begin = s.first_key(0);
  const i32 span = s.context - begin;
  const i32 tokens = CHUNK_UNIT * max(1, (span + CHUNK_UNIT * MAX_SPLITS - 1) / (CHUNK_UNIT * MAX_SPLITS));
  return {begin, tokens, (span + tokens - 1) / tokens};
}

// 2^x to a relative error of 2^-22; 0 for minus infinity.
__device__ __forceinline__ float exp2_fast(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}

// tanh for softcap. The float32 variants keep the library's, which is right to 2 ulp; for 16-bit types four instructions
// do, to an absolute error of 3e-7, and the unrolled loops stay a third as long.
__device__ __forceinline__ float softcap_tanh(float x) {
  if constexpr (is_same<scalar_t, f32>) return tanhf(x);
  else return 1.0f - __fdividef(2.0f, exp2_fast(2.0f * LOG2E * x) + 1.0f);
}

// A raw dot product becomes a score in units of ln 2, so that exp(score) is one exp2.
struct ScoreScale {
  float scale;   // without softcap: scale * log2(e). With: scale / softcap
  float softcap; // 0, or softcap * log2(e)

  __device__ __forceinline__ ScoreScale(float scale_, float softcap_)
      : scale(softcap_ > 0.0f ? scale_ / softcap_ : scale_ * LOG2E), softcap(softcap_ * LOG2E) {}
  __device__ __forceinline__ float operator()(float dot) const {
    return softcap > 0.0f ? softcap * softcap_tanh(dot * scale) : dot * scale;
  }
  // Of an array in registers, with one branch for all of it.
  template <int M, int N>
  __device__ __forceinline__ void operator()(float (&dot)[M][N]) const {
#pragma unroll
    for (int i = 0; i < M; i++) {
#pragma unroll
      for (int j = 0; j < N; j++) dot[i][j] *= scale;
    }
    if (softcap > 0.0f) {
#pragma unroll
      for (int i = 0; i < M; i++) {
#pragma unroll
        for (int j = 0; j < N; j++) dot[i][j] = softcap * softcap_tanh(dot[i][j]);
      }
    }
  }
};
