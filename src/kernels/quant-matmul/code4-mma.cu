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
#include "code4-decode.cuh"

constexpr int THREADS = 512;
constexpr int CHUNKS = SPAN / CHUNK;
using Table = PairTable<128>;
constexpr int TABLE_BYTES = Table::BYTES, NESTED_BYTES = 256 * 4;

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
  const Table table = {shared};
  table.fill(code[threadIdx.x % 16] * levelScale);
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
      for (int h = 0; h < 2; h++) scale[h] = expand_absmax(scales, nestedTable, __float_as_uint(scale[h].x), scale[h].y);
    }
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
      u32 x[NB][8], low[8], high[8];
      rows.load(x, SPAN * now.span + CHUNK * c);
      const float own[2] = {of_chunk(scale[0], c), of_chunk(scale[1], c)};
      table.decode(low, codes[0][c], own[0]);
      table.decode(high, codes[1][c], own[1]);
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
