// Rings of x and W in shared memory, filled by cp.async, for the products of many rows with a quantized weight.
//
//   x: steps of 128 elements of K, two chunks of 64, one for each slice of the block's warps; a chunk is [rows of x][128 bytes]
//   W: spans of 256 elements, two steps, as the weight stores them
//
// Layout says how many THREADS copy, and where the 16-byte unit u of row r of a chunk of x lies: at u ^ swizzle(r). Places in
// the ring are taken in turns.
#pragma once
#include "gemm-place.cuh"

constexpr int SLICES = 2;
constexpr int STEP = SLICES * CHUNK;
constexpr int UNITS = 8; // of 16 bytes in 128
constexpr int ROW_BYTES = 16 * UNITS;

// One thread's share of the copies of a step of x: a 16-byte unit of every 16th row.
template <class Layout>
struct XCopies {
  const scalar_t* from;
  i64 lda;
  int k, first, rows, copied; // its k in a step, its first row, rows that exist, rows that are multiplied
  u32 to;
  static constexpr int ROWS_AT_ONCE = Layout::THREADS / (SLICES * UNITS);

  __device__ __forceinline__ XCopies(const Problem& p, const Place& place, int passRows) : lda(p.lda) {
    const int unit = threadIdx.x % UNITS, slice = threadIdx.x / UNITS % SLICES;
    k = CHUNK * slice + 8 * unit;
    first = threadIdx.x / (UNITS * SLICES);
    rows = p.m - place.row0;
    copied = 32 * place.halves;
    from = p.a + (place.row0 + first) * p.lda + k;
    to = (slice * passRows + first) * ROW_BYTES + 16 * (unit ^ Layout::swizzle(first));
  }
  __device__ __forceinline__ void start(const Problem& p, shared_address stage, int step) const {
    const bool inside = STEP * step + k < p.k;
#pragma unroll
    for (int i = 0; i < BM / ROWS_AT_ONCE; i++) {
      const int row = first + i * ROWS_AT_ONCE;
      if (row >= copied) break;
      copy_async(stage + to + i * ROWS_AT_ONCE * ROW_BYTES, from + i * ROWS_AT_ONCE * lda + STEP * step,
                 row < rows && inside ? 16 : 0);
    }
  }
};

// The rings of steps of x and spans of W in shared memory. Every step commits one group of copies: x of the step xStages - 1
// ahead and, every other time, a span.
template <class Layout>
struct Rings {
  XCopies<Layout> x;
  u8 *xRing, *wRing;
  int xStage, wStage; // bytes
  int xStages, wStages;
  int xFill = 0, wFill = 0, xNow = -1, wNow = -1; // slots
  int xNext, wNext, xEnd, wEnd;                   // steps and spans to copy

  __device__ __forceinline__ Rings(const Problem& p, const Place& place, const Part<STEP>& part, u8* shared, int passRows,
                                   int xStages_, int wStages_, int wStage_)
      : x(p, place, passRows), xRing(shared), xStage(passRows * STEP * 2), wStage(wStage_), xStages(xStages_),
        wStages(wStages_), xNext(part.first), wNext(part.firstSpan), xEnd(part.end), wEnd(part.endSpan) {
    wRing = xRing + xStages * xStage;
  }
  __device__ __forceinline__ void copy_x(const Problem& p) {
    if (xNext < xEnd) x.start(p, to_shared(xRing + xFill * xStage), xNext);
    xNext++;
    xFill = xFill + 1 == xStages ? 0 : xFill + 1;
  }
  template <class CopySpan>
  __device__ __forceinline__ void copy_w(const CopySpan& copy) {
    if (wNext < wEnd) copy(to_shared(wRing + wFill * wStage), wNext);
    wNext++;
    wFill = wFill + 1 == wStages ? 0 : wFill + 1;
  }
  template <class CopySpan>
  __device__ __forceinline__ void fill(const Problem& p, const CopySpan& copy) {
#pragma unroll 1
    for (int s = 0; s < xStages - 1; s++) {
      // A span is there before its first step: span j with step 2j or sooner.
      for (int j = s; j < (s + 2 == xStages ? wStages - 1 : min(s + 1, wStages - 1)); j++) copy_w(copy);
      copy_x(p);
      commit_copies();
    }
  }
  // Waits for the copies of a step, and starts those that take the place of the step before.
  template <class CopySpan>
  __device__ __forceinline__ void advance(const Problem& p, int step, const CopySpan& copy) {
    if (xStages == 2) wait_copies<0>();
    else if (xStages == 3) wait_copies<1>();
    else wait_copies<2>();
    __syncthreads(); // everybody's copies have arrived, and everybody has finished with what is refilled now
    xNow = xNow + 1 == xStages ? 0 : xNow + 1;
    if (step % 2 == 0) {
      wNow = wNow + 1 == wStages ? 0 : wNow + 1;
      copy_w(copy);
    }
    copy_x(p);
    commit_copies();
  }
  __device__ __forceinline__ const u8* x_chunk(int slice) const { return xRing + xNow * xStage + slice * (xStage / SLICES); }
  __device__ __forceinline__ const u8* w_stage() const { return wRing + wNow * wStage; }
};

