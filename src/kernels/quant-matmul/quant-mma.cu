// Few rows times a quantized weight on the tensor cores: D[M, N] = x[M, K] · W[N, K]^T, M = 1..16, f16 and bf16, sm_80 and newer.
// The decode path: W's blocks are read once, as they are stored, and decoded on their way to the multiplication.
//
// Bound by W's bytes: 33 MB for 14336 x 4096 in NF4, 7.3 us at the 4.5 TB/s an H200 reads. What must keep up is the decoding.
// NF4 takes for each byte, two values, a shift, a logical operation and a load from a table in shared memory: 59 M values
// are 0.9 M warp-wide loads, 7000 clocks (4 us) on each of 132 multiprocessors. A multiply-add for every value would be as
// much again; the tensor cores do it beside, for up to 8 rows of x at one price.
//
//            k ->                              A tile is 16 rows of W; a block stays and takes every so-manieth. Its warps take
//      +---------+---------+--   --+           turns along K, a span of 256 values at a time. Every warp has a ring of STAGES
//  W   | warp 0  | warp 1  |  ..   |           spans of its own in shared memory, filled by cp.async: some 150 KB of W are on
//      +---------+---------+--   --+           their way to a multiprocessor, also while warps decode and between tiles.
//
// A copy moves aligned 16 bytes. Blocks of 18, 34, 110 or 210 bytes begin anywhere: a row's pieces are those that its span
// touches, and the decoding starts `skew` bytes into the first.
//
// Scales are applied to sums, not to weights. q (a level of NF4, or a whole number) is exact in 16 bits or nearly so (see
// codeScale); one m16n8k16 multiplies 16 rows of W and 8 of x over 16 k that share a scale; float32 sums of a group times its
// scale, minus its min times the sum of x, are added up in float32. So a weight is never rounded to 16 bits.
// Every warp first unpacks a span's scales, each lane its share, into a table that all its lanes then read.
//
// x lies in shared memory as a whole where it fits (M K 2 bytes); else it is read through L1.
// NF4's table holds all 256 pairs of levels, once for every lane: 32 KB, no bank conflicts.
// Sums: by group in k order, then the warps in order. They depend on K and the device, not on M, N nor the grid: a row's
// result has the same bits in every batch of up to 16.
// Needs K a multiple of 64 and rows of x that start on 16 bytes. Block: 32 threads a warp, at most 512; shared memory:
// quantMmaLayout in layout.ts, the same arithmetic as here.
#include "quant.cuh"
#include "fragments.cuh"
#include "../common/launch.cuh"
#include "../matmul/tensor-core.cuh"

constexpr int NB = VARIANT_ROWS / 8; // groups of 8 rows of x
constexpr int TILE = 16;
constexpr int COMPONENTS = Format::HAS_MIN ? 2 : 1;

// ---- shared memory: the same numbers in layout.ts -------------------------------------------------------------------

// Bytes between rows of a span in the ring. The 32 bytes that four lanes read at once in four rows lie in different banks.
constexpr int PIECES = CODE4 ? 8 : (span_bytes<Format> + 15) / 16 + 1; // of 16 bytes that a row's span may touch
constexpr int ROW_PITCH = CODE4 ? 128 : (PIECES * 16 + 31) / 64 * 64 + 32;
constexpr int ABSMAX_BYTES = CODE4 ? TILE * 16 : 0;
constexpr int STAGE_BYTES = TILE * ROW_PITCH + ABSMAX_BYTES;
#ifndef QUANT_STAGES
#define QUANT_STAGES 3
#endif
#ifndef QUANT_UNROLL
#define QUANT_UNROLL 1
#endif
constexpr int UNROLL = QUANT_UNROLL;
constexpr int STAGES = CODE4 ? QUANT_STAGES : STAGE_BYTES <= 3584 ? 3 : 2;
constexpr int TABLE_BYTES = CODE4 ? 256 * 32 * 4 + 256 * 4 : 0; // pairs of levels; the code of nested absmax
constexpr int SCALES_BYTES = TILE * GROUPS_IN_SPAN * COMPONENTS * 4;
constexpr int PITCH = TILE + 4; // floats between columns of sums
constexpr int SUMS_BYTES = 2 * 8 * NB * PITCH * 4;
constexpr int WARP_BYTES = STAGES * STAGE_BYTES + SCALES_BYTES + SUMS_BYTES;

// Where 16-byte piece i of row r lies in a span of 4-bit codes: the pairs of pieces are exchanged by row.
__device__ __forceinline__ int piece_place(int row, int piece) {
  return CODE4 ? row * ROW_PITCH + (piece ^ (row % 4 * 2)) * 16 : row * ROW_PITCH + piece * 16;
}

__device__ __forceinline__ void copy_4(shared_address dst, const void* src) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(dst), "l"(__cvta_generic_to_global(src)) : "memory");
}

// ---- copies --------------------------------------------------------------------------------------------------------

struct Weight {
  const u8* data;
  i64 bytes, rowBytes;
  Absmax absmax;
  int k;

  // Starts the copies of span `span` of the 16 rows of `tile`, one row or piece a lane and round.
  __device__ __forceinline__ void copy(const Problem& p, shared_address stage, int tile, int span) const {
    const int lane = threadIdx.x % 32;
    const i64 first = i64(span) * span_bytes<Format>;
    const i64 length = min(i64(span_bytes<Format>), rowBytes - first);
#pragma unroll
    for (int i = 0; i < (TILE * PIECES + 31) / 32; i++) {
      const int at = 32 * i + lane, row = at / PIECES, piece = at % PIECES;
      if (TILE * PIECES % 32 != 0 && row >= TILE) break;
      const i64 begin = weight_row<TILE>(p, tile, row) * rowBytes + first;
      const i64 from = (begin & ~i64(15)) + 16 * piece;
      if (from >= begin + length) continue;
      copy_async(stage + piece_place(row, piece), data + from, int(min(i64(16), bytes - from)));
    }
    if constexpr (CODE4) copy_absmax(p, stage + TILE * ROW_PITCH, tile, span);
  }

  __device__ __forceinline__ void copy_absmax(const Problem& p, shared_address dst, int tile, int span) const {
    const int lane = threadIdx.x % 32;
    if (absmax.nestedAbsmax) { // blocks of 64, K a multiple of 256: the four bytes of a row lie together
      if (lane >= TILE) return;
      const i64 b = (weight_row<TILE>(p, tile, lane) * k + SPAN * span) >> 6;
      copy_4(dst + lane * 16, static_cast<const u8*>(absmax.values) + b);
      return;
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int row = 8 * i + lane / 4, at = SPAN * span + CHUNK * (lane % 4);
      if (at >= k) continue;
      const i64 b = (weight_row<TILE>(p, tile, row) * k + at) >> absmax.shift;
      copy_4(dst + row * 16 + lane % 4 * 4, static_cast<const float*>(absmax.values) + b);
    }
  }
};

// ---- decoding ------------------------------------------------------------------------------------------------------

// The table of a span's scales: [row][group][scale, min].
__device__ __forceinline__ void unpack_scales(const Problem& p, const Weight& w, const u8* stage, float* scales,
                                              const float* nestedCode, float inverse, int tile, int span) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int at = lane; at < TILE * GROUPS_IN_SPAN; at += 32) {
    const int row = at / GROUPS_IN_SPAN, group = at % GROUPS_IN_SPAN;
    if constexpr (CODE4) {
      const u8* raw = stage + TILE * ROW_PITCH + row * 16;
      float value;
      if (w.absmax.nestedAbsmax) {
        const i64 b = (weight_row<TILE>(p, tile, row) * w.k + SPAN * span) >> 6;
        value = w.absmax.nested(nestedCode, raw[group], b);
      } else {
        value = reinterpret_cast<const float*>(raw)[group];
      }
      scales[at] = value * inverse;
    } else {
      if (SPAN * span + Format::GROUP * group >= w.k) continue;
      const i64 begin = weight_row<TILE>(p, tile, row) * w.rowBytes + i64(span) * span_bytes<Format>;
      const Scale s = Format::scale_of(stage + row * ROW_PITCH + int(begin & 15), group);
      scales[at * COMPONENTS] = s.scale;
      if constexpr (Format::HAS_MIN) scales[at * COMPONENTS + 1] = s.min;
    }
  }
}

// The eight pairs of lane t in a row's chunk c: quad i is pairs 2i and 2i + 1.
__device__ __forceinline__ void decode(u32 (&pairs)[8], const u8* stage, const u8* table, int row, int skew, int c, int t) {
  if constexpr (CODE4) {
    const uint2 codes = *reinterpret_cast<const uint2*>(stage + piece_place(row, 2 * c + t / 2) + t % 2 * 8);
    const u32 mine = threadIdx.x % 32 * 4;
#pragma unroll
    for (int i = 0; i < 8; i++) {
      const u32 word = i < 4 ? codes.x : codes.y;
      const u32 shifted = i % 4 == 0 ? word << 7 : word >> (8 * (i % 4) - 7);
      pairs[i] = *reinterpret_cast<const u32*>(table + ((shifted & 0x7f80u) | mine));
    }
  } else {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const Pairs two = pairs_of<Format::BIAS>(Format::quad(stage + row * ROW_PITCH + skew, c, t, i));
      pairs[2 * i] = two.low;
      pairs[2 * i + 1] = two.high;
    }
  }
}

// The pairs of x that belong to them; `row` points at x's row, or is null where there is none.
__device__ __forceinline__ void load_x(u32 (&x)[8], const u8* row, int c, int t) {
#pragma unroll
  for (int i = 0; i < 8; i++) x[i] = 0;
  if (!row) return;
  if constexpr (Format::WIDE) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const uint4 v = *reinterpret_cast<const uint4*>(row + 2 * (CHUNK * c + Format::offset(t, 2 * i)));
      x[4 * i] = v.x;
      x[4 * i + 1] = v.y;
      x[4 * i + 2] = v.z;
      x[4 * i + 3] = v.w;
    }
  } else {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const uint2 v = *reinterpret_cast<const uint2*>(row + 2 * (CHUNK * c + Format::offset(t, i)));
      x[2 * i] = v.x;
      x[2 * i + 1] = v.y;
    }
  }
}

// ---- the kernel ----------------------------------------------------------------------------------------------------

extern "C" __global__ void __launch_bounds__(512, 1) KERNEL_NAME(QUANT_PARAMETERS, int xBytes) {
  QUANT_PROBLEM
  extern __shared__ __align__(128) u8 shared[];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
  const int g = lane / 4, t = lane % 4;
  const bool gated = p.has(GATED);
  const int columns = gated ? TILE / 2 : TILE; // of D, in a tile
  const int tiles = tiles_of(p.n, columns);
  const int spans = tiles_of(p.k, SPAN), rounds = (spans - warp + warps - 1) / warps;
  const i64 rowBytes = CODE4 ? i64(p.k) / 2 : i64(p.k) / Format::VALUES * Format::BYTES;

  u8* ring = shared + TABLE_BYTES + warp * (STAGES * STAGE_BYTES);
  float* scales = reinterpret_cast<float*>(shared + TABLE_BYTES + warps * (STAGES * STAGE_BYTES) + warp * SCALES_BYTES);
  float* sums = reinterpret_cast<float*>(shared + TABLE_BYTES + warps * (STAGES * STAGE_BYTES + SCALES_BYTES));
  u8* xShared = shared + TABLE_BYTES + warps * WARP_BYTES;

  // ---- the first spans are on their way before the previous kernel has finished writing x
  const Weight source = {weight, weightBytes, rowBytes, CODE4_ABSMAX, p.k};
  int aheadTile = blockIdx.x, aheadRound = 0;
  const auto copy_next = [&](int stage) {
    if (aheadTile < tiles) source.copy(p, to_shared(ring + stage * STAGE_BYTES), aheadTile, aheadRound * warps + warp);
    commit_copies();
    if (++aheadRound == rounds) {
      aheadRound = 0;
      aheadTile += gridDim.x;
    }
  };
#pragma unroll
  for (int s = 0; s < STAGES; s++) copy_next(s);

  const float* nestedTable = reinterpret_cast<const float*>(shared + 256 * 32 * 4);
  if constexpr (CODE4) {
    for (int at = threadIdx.x; at < 256 * 8; at += blockDim.x) { // four copies of a pair at a time
      const u32 pair = u32(from_float<scalar_t>(code[at >> 7] * levelScale).bits) |
                       u32(from_float<scalar_t>(code[at >> 3 & 15] * levelScale).bits) << 16;
      reinterpret_cast<uint4*>(shared)[at] = make_uint4(pair, pair, pair, pair);
    }
    if (nestedAbsmax) {
      for (int at = threadIdx.x; at < 256; at += blockDim.x) reinterpret_cast<float*>(shared + 256 * 32 * 4)[at] = nestedCode[at];
    }
  }
  allow_next();
  wait_for_previous();
  // xBytes: between rows of x in shared memory; 0 when it does not fit.
  const int vectors = p.k / 8;
  if (xBytes) {
    for (int row = 0; row < p.m; row++) {
      for (int at = threadIdx.x; at < vectors; at += blockDim.x) {
        store_vec(reinterpret_cast<scalar_t*>(xShared + row * xBytes) + 8 * at, load_vec(p.a + row * p.lda + 8 * at));
      }
    }
  }
  __syncthreads();

  const float inverse = CODE4 ? 1.0f / levelScale : 1.0f;
  const u8* xRow[NB];
#pragma unroll
  for (int b = 0; b < NB; b++) {
    const int row = 8 * b + g;
    xRow[b] = row >= p.m ? nullptr : xBytes ? xShared + row * xBytes : reinterpret_cast<const u8*>(p.a + row * p.lda);
  }

  int stage = 0, buffer = 0;
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    float total[NB][4] = {};
    for (int round = 0; round < rounds; round++) {
      const int span = round * warps + warp;
      const u8* item = ring + stage * STAGE_BYTES;
      wait_copies<STAGES - 1>();
      __syncwarp();
      unpack_scales(p, source, item, scales, nestedTable, inverse, tile, span);
      __syncwarp();
      int skewLow = 0, skewHigh = 0;
      if constexpr (!CODE4) {
        const i64 first = i64(span) * span_bytes<Format>;
        skewLow = int((weight_row<TILE>(p, tile, g) * rowBytes + first) & 15);
        skewHigh = int((weight_row<TILE>(p, tile, g + 8) * rowBytes + first) & 15);
      }
#pragma unroll UNROLL
      for (int c = 0; c < SPAN / CHUNK; c++) {
        if (SPAN * span + CHUNK * c >= p.k) break;
        u32 x[NB][8], low[8], high[8];
#pragma unroll
        for (int b = 0; b < NB; b++) load_x(x[b], xRow[b] ? xRow[b] + 2 * SPAN * span : nullptr, c, t);
        decode(low, item, shared, g, skewLow, c, t);
        decode(high, item, shared, g + 8, skewHigh, c, t);
#pragma unroll
        for (int group = 0; group < GROUPS_IN_CHUNK; group++) {
          const float* lowScale = scales + (g * GROUPS_IN_SPAN + c * GROUPS_IN_CHUNK + group) * COMPONENTS;
          const float* highScale = lowScale + 8 * GROUPS_IN_SPAN * COMPONENTS;
#pragma unroll
          for (int b = 0; b < NB; b++) {
            float sum[4] = {}, sumX[4] = {};
#pragma unroll
            for (int i = group * 4 / GROUPS_IN_CHUNK; i < (group + 1) * 4 / GROUPS_IN_CHUNK; i++) {
              mma_16x8x16(sum, low[2 * i], high[2 * i], low[2 * i + 1], high[2 * i + 1], x[b][2 * i], x[b][2 * i + 1]);
              if constexpr (Format::HAS_MIN) mma_16x8x16(sumX, ONES, ONES, ONES, ONES, x[b][2 * i], x[b][2 * i + 1]);
            }
#pragma unroll
            for (int j = 0; j < 4; j++) {
              const float* s = j < 2 ? lowScale : highScale;
              total[b][j] = fmaf(s[0], sum[j], total[b][j]);
              if constexpr (Format::HAS_MIN) total[b][j] = fmaf(-s[1], sumX[j], total[b][j]);
            }
          }
        }
      }
      __syncwarp();
      copy_next(stage);
      stage = stage + 1 == STAGES ? 0 : stage + 1;
    }

    // ---- over the warps. The sums of the next tile go to the other buffer, so that one barrier a tile is enough.
    float* mine = sums + (buffer * warps + warp) * 8 * NB * PITCH;
#pragma unroll
    for (int b = 0; b < NB; b++) {
#pragma unroll
      for (int i = 0; i < 4; i++) mine[(8 * b + 2 * t + i % 2) * PITCH + i / 2 * 8 + g] = total[b][i];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < p.m * columns; i += blockDim.x) {
      const int row = i / columns, in_tile = i % columns, column = tile * columns + in_tile;
      if (column >= p.n) continue;
      const float* from = sums + buffer * warps * 8 * NB * PITCH + row * PITCH + in_tile;
      float sum = 0.0f, up = 0.0f;
      for (int v = 0; v < warps; v++) {
        sum += from[v * 8 * NB * PITCH];
        if (gated) up += from[v * 8 * NB * PITCH + 8];
      }
      if (gated) p.finish_gated(row, column, sum, up);
      else p.finish(row, column, sum);
    }
    buffer ^= 1;
  }
}
