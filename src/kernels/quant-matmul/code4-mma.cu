// Few rows times a weight in 4-bit codes on the tensor cores: D[M, N] = x[M, K] · W[N, K]^T, M = 1..16, f16 and bf16, sm_80 and
// newer. See quant-mma.cuh for how warps divide the work.
//
// Bound by W's bytes: 33 MB for 14336 x 4096 (blocks of 64, float32 absmax), 7.3 us at the 4.5 TB/s an H200 reads, 11 us at an
// H100's 3. What must keep up is the decoding: for each byte, two values, a shift, a logical operation and a load from a table
// in shared memory: 59 M values are 0.9 M warp-wide loads, 7000 clocks (4 us) on each of 132 multiprocessors. A multiply-add
// for every value would be as much again; the tensor cores do it beside, for up to 8 rows of x at one price.
//
// Codes go from memory to registers. Four lanes read the 32 bytes of a row that share an absmax, eight each, in the order that
// the multiplication takes them: no shuffle, no repacking of the weight. As soon as a chunk is decoded, the same registers are
// asked for that chunk of the warp's next span, so that loads are always under way: 2 KB a warp.
// The table holds all 256 pairs of levels, once for every lane: 32 KB, no bank conflicts.
// Format code4_rounded: the table holds pairs of float32 levels, 16 copies, which a half warp reads at a time; times absmax,
// rounded to bf16, and as f16 (exact but for subnormal ones) they are multiplied, and sums need no scale. Thrice the
// instructions for a pair: bound by those.
// Needs K a multiple of 256, blocks of 64 values or more (64, where absmax is nested), rows of x that start on 16 bytes.
// Block: 32 threads a warp. Shared memory: mmaLayout in layout.ts.
#include "quant-mma.cuh"

constexpr int THREADS = 512;
constexpr int CHUNKS = SPAN / CHUNK;
constexpr int TABLE_BYTES = 256 * 32 * 4, NESTED_BYTES = 256 * 4;

__device__ __forceinline__ uint2 load_streaming_8(const u8* p) {
  uint2 v;
  asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0,%1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(__cvta_generic_to_global(p)));
  return v;
}

// Where a lane reads: of the rows g and g + 8 of a tile, the eight bytes of every chunk, and absmax.
struct Source {
  const u8* codes[2];
  i64 first[2]; // the first element of the row

  __device__ __forceinline__ void select(const Problem& p, const u8* weight, int tile) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int h = 0; h < 2; h++) {
      first[h] = weight_row<TILE>(p, tile, g + 8 * h) * p.k;
      codes[h] = weight + first[h] / 2 + 8 * t;
    }
  }
  __device__ __forceinline__ uint2 load(int h, int span, int c) const {
    return load_streaming_8(codes[h] + span * (SPAN / 2) + c * (CHUNK / 2));
  }
};

// The absmax of a span in one row, as it is loaded: four floats, or four 8-bit codes and the absmax of their block.
__device__ __forceinline__ float4 load_absmax(const Absmax& scales, i64 first) {
  if (scales.nestedAbsmax) {
    const i64 b = first >> 6;
    return {*reinterpret_cast<const float*>(static_cast<const u8*>(scales.values) + b), scales.nestedAbsmax[b >> 8], 0.0f, 0.0f};
  }
  const float* values = static_cast<const float*>(scales.values);
  if (scales.shift == 6) return *reinterpret_cast<const float4*>(values + (first >> 6));
  return {values[first >> scales.shift], values[(first + CHUNK) >> scales.shift], values[(first + 2 * CHUNK) >> scales.shift],
          values[(first + 3 * CHUNK) >> scales.shift]};
}

// Nested absmax to float32: lane t of four computes chunk t's and gives it to the others.
__device__ __forceinline__ float4 expand_absmax(const Absmax& scales, const float* table, float4 raw) {
  const int lane = threadIdx.x % 32, t = lane % 4;
  const u32 byte = __float_as_uint(raw.x) >> 8 * t & 255u;
  const float own = __fadd_rn(__fmul_rn(table[byte], raw.y), scales.nestedOffset);
  const int from = lane & ~3;
  return {__shfl_sync(0xffffffffu, own, from), __shfl_sync(0xffffffffu, own, from | 1), __shfl_sync(0xffffffffu, own, from | 2),
          __shfl_sync(0xffffffffu, own, from | 3)};
}

__device__ __forceinline__ void fill_table(u8* table, const float* code, float levelScale) {
  for (int at = threadIdx.x; at < 256 * 8; at += blockDim.x) { // a quarter of a pair's copies at a time
    const float first = code[at >> 7] * levelScale, second = code[at >> 3 & 15] * levelScale;
    if constexpr (ROUNDED) {
      reinterpret_cast<float4*>(table)[at] = {first, second, first, second};
    } else {
      const u32 pair = u32(from_float<scalar_t>(first).bits) | u32(from_float<scalar_t>(second).bits) << 16;
      reinterpret_cast<uint4*>(table)[at] = make_uint4(pair, pair, pair, pair);
    }
  }
}

// Two values, rounded to bf16, as f16.
__device__ __forceinline__ u32 rounded_pair(float2 v) {
  u32 r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(v.y), "f"(v.x));
  const float first = __uint_as_float(r << 16), second = __uint_as_float(r & 0xffff0000u);
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(second), "f"(first));
  return r;
}

// Pairs of levels; rounded, of values.
__device__ __forceinline__ void decode(u32 (&pairs)[8], uint2 codes, const u8* table, float scale) {
  const u32 mine = ROUNDED ? threadIdx.x % 16 * 8 : threadIdx.x % 32 * 4;
#pragma unroll
  for (int i = 0; i < 8; i++) {
    const u32 word = i < 4 ? codes.x : codes.y;
    const u32 shifted = i % 4 == 0 ? word << 7 : word >> (8 * (i % 4) - 7);
    const u8* at = table + ((shifted & 0x7f80u) | mine);
    if constexpr (ROUNDED) {
      const float2 two = *reinterpret_cast<const float2*>(at);
      pairs[i] = rounded_pair({__fmul_rn(two.x, scale), __fmul_rn(two.y, scale)});
    } else {
      pairs[i] = *reinterpret_cast<const u32*>(at);
    }
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) KERNEL_NAME(QUANT_PARAMETERS, int slices, int xBytes) {
  QUANT_PROBLEM
  extern __shared__ __align__(128) u8 shared[];
  const Share share(slices);
  const int warps = blockDim.x / 32;
  const int tiles = tiles_of(p.n, columns_of_tile(p)), spans = p.k / SPAN;
  const Absmax scales = CODE4_ABSMAX;
  float* nestedTable = reinterpret_cast<float*>(shared + TABLE_BYTES);
  float* sums = reinterpret_cast<float*>(shared + TABLE_BYTES + NESTED_BYTES);
  u8* xShared = shared + TABLE_BYTES + NESTED_BYTES + warps * SUMS_BYTES;

  // ---- the first span is on its way before the previous kernel has finished writing x
  Cursor now = {share.first_tile(), share.slice};
  Source source;
  uint2 codes[2][CHUNKS];
  float4 raw[2]; // absmax
  if (now.tile < tiles) {
    source.select(p, weight, now.tile);
#pragma unroll
    for (int h = 0; h < 2; h++) {
#pragma unroll
      for (int c = 0; c < CHUNKS; c++) codes[h][c] = source.load(h, now.span, c);
      raw[h] = load_absmax(scales, source.first[h] + SPAN * now.span);
    }
  }
  fill_table(shared, code, levelScale);
  if (nestedAbsmax) {
    for (int at = threadIdx.x; at < 256; at += blockDim.x) nestedTable[at] = nestedCode[at];
  }
  allow_next();
  wait_for_previous();
  stage_x(p, xShared, xBytes);
  __syncthreads();

  const XRows rows(p, xShared, xBytes);
  const float factor = 1.0f / levelScale;
  float total[NB][4] = {};
  int buffer = 0;
  while (now.tile < tiles) {
    Cursor ahead = now;
    const bool ends = ahead.next(share, spans);
    const bool more = ahead.tile < tiles;
    if (ends && more) source.select(p, weight, ahead.tile);
    float4 scale[2] = {raw[0], raw[1]};
    if (more) {
#pragma unroll
      for (int h = 0; h < 2; h++) raw[h] = load_absmax(scales, source.first[h] + SPAN * ahead.span);
    }
    if (scales.nestedAbsmax) {
#pragma unroll
      for (int h = 0; h < 2; h++) scale[h] = expand_absmax(scales, nestedTable, scale[h]);
    }
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
      u32 x[NB][8], low[8], high[8];
      rows.load(x, SPAN * now.span + CHUNK * c);
      const float own[2] = {c == 0 ? scale[0].x : c == 1 ? scale[0].y : c == 2 ? scale[0].z : scale[0].w,
                            c == 0 ? scale[1].x : c == 1 ? scale[1].y : c == 2 ? scale[1].z : scale[1].w};
      decode(low, codes[0][c], shared, own[0]);
      decode(high, codes[1][c], shared, own[1]);
      if (more) {
        codes[0][c] = source.load(0, ahead.span, c);
        codes[1][c] = source.load(1, ahead.span, c);
      }
      const float ofSums[2][1] = {{ROUNDED ? 1.0f : own[0]}, {ROUNDED ? 1.0f : own[1]}};
      multiply_chunk(total, low, high, x, ofSums);
    }
    if (ends) {
      finish_tile(p, share, sums, buffer, now.tile, total, factor);
      buffer ^= 1;
#pragma unroll
      for (int b = 0; b < NB; b++) {
#pragma unroll
        for (int i = 0; i < 4; i++) total[b][i] = 0.0f;
      }
    }
    now = ahead;
  }
}
