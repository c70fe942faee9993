// 4-bit codes for products of many rows: their way to shared memory, and absmax.
#pragma once
#include "code4-table.cuh"
#include "gemm-rings.cuh"

constexpr int SCALES_BYTES = 2 * (SPAN / CHUNK) * BN * 4;

// One thread's share of the copies of a span: unit threadIdx.x % 8 of every 32nd row.
template <int THREADS>
struct CodeCopies {
  static constexpr int ROW_STEP = THREADS / UNITS, ROW_COPIES = BN / ROW_STEP;
  const u8* from;
  u32 row[ROW_COPIES]; // where each row starts, in 16 bytes
  u32 to;

  __device__ __forceinline__ CodeCopies(const Problem& p, const u8* weight, const Column& columns) {
    const int line = threadIdx.x / UNITS, unit = threadIdx.x % UNITS;
    from = weight + 16 * unit;
    to = line * ROW_BYTES + 16 * (unit ^ (line & 3) << 1);
#pragma unroll
    for (int i = 0; i < ROW_COPIES; i++) row[i] = u32(existing_row(p, columns, line + ROW_STEP * i) * p.k / 32);
  }
  __device__ __forceinline__ void start(const Problem& p, shared_address stage, int span) const {
    if (SPAN * span + 32 * int(threadIdx.x % UNITS) >= p.k) return;
#pragma unroll
    for (int i = 0; i < ROW_COPIES; i++) {
      copy_async(stage + to + i * ROW_STEP * ROW_BYTES, from + i64(row[i]) * 16 + span * (SPAN / 2), 16);
    }
  }
};

// Absmax of a span as float32: [4 chunks][128 rows] in shared memory, of two spans in turn. A thread has one value; it is on its
// way while two steps are multiplied. (Handed from register to register it would be waited for at the first of them.)
template <int THREADS>
struct SpanScales {
  static_assert(THREADS == BN * SPAN / CHUNK, "a value for each thread");
  Absmax scales;
  const float* nestedTable;
  float* shared;
  i64 first; // element of the row's chunk
  int k;     // the row's length
  float value, block; // as loaded: float32; or an 8-bit code, and the absmax of its block

  __device__ __forceinline__ SpanScales(const Absmax& scales_, const Problem& p, const Column& columns, u8* tables, int span)
      : scales(scales_), nestedTable(reinterpret_cast<const float*>(tables + TABLE_BYTES)),
        shared(reinterpret_cast<float*>(tables + TABLE_BYTES + NESTED_BYTES)), k(p.k), block(0.0f) {
    first = existing_row(p, columns, threadIdx.x % BN) * p.k;
    at(span)[threadIdx.x] = scales.at(block_of(span));
    load(span + 1);
  }
  // Past the end of K: any block of the row.
  __device__ __forceinline__ i64 block_of(int span) const {
    return (first + min(SPAN * span + CHUNK * int(threadIdx.x / BN), k - CHUNK)) >> scales.shift;
  }
  __device__ __forceinline__ float* at(int span) const { return shared + span % 2 * THREADS; }
  __device__ __forceinline__ void load(int span) {
    const i64 b = block_of(span);
    if (scales.nestedAbsmax) {
      value = __uint_as_float(static_cast<const u8*>(scales.values)[b]);
      block = scales.nestedAbsmax[b >> 8];
    } else {
      value = static_cast<const float*>(scales.values)[b];
    }
  }
  // Stores the span after `span`, at its first step, and loads the one after that.
  __device__ __forceinline__ void advance(int span) {
    const bool nested = scales.nestedAbsmax != nullptr;
    at(span + 1)[threadIdx.x] =
        nested ? __fadd_rn(__fmul_rn(nestedTable[__float_as_uint(value)], block), scales.nestedOffset) : value;
    load(span + 2);
  }
};
