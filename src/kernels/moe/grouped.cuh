// A grouped product: for every group of rows (groups.cuh) the product with its own expert's weight,
//
//   D[slot, :] = A[slot / share, :] · B[expert]^T     or gated, as matmul.cuh says
//
// share = k for the first product, whose k slots of a token read the same row, and 1 for the second. Rows are read where
// they lie and written where they belong: nothing is permuted in memory. The tiles are those of ../matmul.
#pragma once
#include "groups.cuh"
#include "../common/launch.cuh"
#include "../matmul/matmul.cuh"

// A [.., K], D [S, N], B [E, N, K] (gated [E, 2N, K]), rows without gaps; an expert's weight is `expertStride` elements.
// The weights of experts firstExpert ... endExpert - 1 lie from `b` on; groups of others are another launch's.
#define GROUPED_PARAMETERS                                                                                           \
  void *out, const scalar_t *a, const scalar_t *b, const i32 *order, const i32 *table, i64 expertStride, int n,      \
      int k, int share, u32 flags, int firstExpert, int endExpert
#define GROUPED_PRODUCT                                                                                              \
  const GroupedProduct product = {                                                                                   \
      {out, a, b, nullptr, nullptr, 0, n, k, flags, k, k, n, 0, 1.0f, 0.0f, order, share}, table, expertStride,      \
      firstExpert, endExpert};

// The table was complete before the stream's previous kernel began: it may be read while that one still runs. True of the
// second product, whose previous kernel is the first one, which lets it start only after it has waited itself.
inline constexpr u32 EARLY_TABLE = 256; // matmul.cuh has the other flags

struct GroupedProduct {
  Problem p; // of no rows
  const i32* table;
  i64 expertStride;
  int firstExpert, endExpert;

  __device__ __forceinline__ int groups() const { return group_count(table); }
  // Whether there is a group i whose weight this launch has.
  __device__ __forceinline__ bool has_group(int i) const {
    if (i >= groups()) return false;
    const int expert = load_group(table, i).expert;
    return expert >= firstExpert && expert < endExpert;
  }
  __device__ __forceinline__ Problem group(int i) const {
    const Group g = load_group(table, i);
    Problem q = p;
    q.b += (g.expert - firstExpert) * expertStride;
    q.order += g.first;
    q.m = g.rows;
    return q;
  }
};
