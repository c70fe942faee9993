// What the two kernels for few rows of GGML blocks share: all but how W comes to shared memory.
//
//            k ->                           A warp multiplies items: 16 rows of W (a tile) over a span of 256 k. It belongs to a
//      +-------+-------+-------+---         slice, the spans slice, slice + slices, ..., and holds x of one span in registers
//  W   |slice 0|slice 1|slice 2| ..         while it goes through the block's tiles, so that x is loaded once for all of them.
//      +-------+-------+-------+---         Its items come through a ring of its own in shared memory: warps do not wait for each
//      |slice 0|slice 1|slice 2| ..         other. Sums of an item go to shared memory, one place for each tile and slice; when
//      +-------+-------+-------+---         the tiles of a step are done, the block adds up the slices and stores D.
//
// Scales are applied to float32 sums, not to weights: q (or START + q, see ggml-pairs.cuh) is exact in 16 bits, one m16n8k16
// multiplies 16 rows of W and 8 of x over 16 k that share a scale. A lane unpacks the scales of its rows g and g + 8 for one of
// the span's four chunks, its own: chunk t. For up to 2 rows of x (ROWS = 2) that is enough: the columns of the multiplication
// are copies of the rows, every lane finds both sums of every group in its registers, and adds up its own chunk. For more
// rows all columns count: lanes add up all chunks and ask each other for scales. Both ways add the same numbers in the same order.
//
// Order of sums: groups of a chunk, chunks (0 + 1) + (2 + 3), spans of a slice, slices. It depends on K, the type and the device
// alone: a row's result has the same bits in every batch of up to 16.
#pragma once
#include "quant.cuh"
#include "../common/launch.cuh"
#include "../matmul/tensor-core.cuh"
#include "ggml-pairs.cuh"

using Read = Reader<Format>;
constexpr int ROWS = VARIANT_ROWS, NB = (ROWS + 7) / 8; // rows of x, in groups of 8 columns
constexpr bool TWO = ROWS == 2;
constexpr int TILE = 16, CHUNKS = SPAN / CHUNK;
constexpr int X_SUMS_BYTES = Format::HAS_MIN ? GROUPS_IN_SPAN * ROWS * 4 : 0; // of a warp
using Sums = float[NB][4];

// Gated, a tile is eight gates and the ups of the same columns of D.
__device__ __forceinline__ int columns_of_tile(const Problem& p) { return p.has(GATED) ? TILE / 2 : TILE; }

// What a warp takes, in this order: for every step of `together` tiles, for every span of its slice, for every tile of the step
// that is its own. `parts` warps share a slice and take tiles in turns. Tiles are dealt to blocks in turns, too.
struct Walk {
  int tiles, spans, slices, parts, together, slice, part;

  __device__ __forceinline__ Walk(const Problem& p, int slices_, int parts_, int together_)
      : tiles(tiles_of(p.n, columns_of_tile(p))), spans(tiles_of(p.k, SPAN)), slices(slices_), parts(parts_),
        together(together_) {
    const int warp = threadIdx.x / 32;
    part = warp / slices;
    slice = warp % slices;
  }
};
struct Cursor {
  int first, local, span; // the step's first tile, the tile in the step

  __device__ __forceinline__ Cursor(const Walk& w) : first(blockIdx.x), local(w.part), span(w.slice) {}
  __device__ __forceinline__ int tile() const { return first + int(gridDim.x) * local; }
  __device__ __forceinline__ bool valid(const Walk& w) const { return tile() < w.tiles; }
  __device__ __forceinline__ void next(const Walk& w) {
    local += w.parts;
    if (local < w.together && valid(w)) return;
    local = w.part;
    span += w.slices;
    if (span < w.spans) return;
    span = w.slice;
    first += int(gridDim.x) * w.together;
  }
};

// ---- x -----------------------------------------------------------------------------------------------------------------

// The pairs of x of this lane over a span. Zeros for a row that does not exist, and behind K.
__device__ __forceinline__ void load_x(u32 (&x)[NB][CHUNKS][8], const Problem& p, int span) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (int b = 0; b < NB; b++) {
    const int row = TWO ? g % p.m : 8 * b + g;
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
      const int k = SPAN * span + CHUNK * c;
      const bool exists = row < p.m && (Format::VALUES == 256 || k < p.k);
      const scalar_t* from = p.a + row * p.lda + k;
      constexpr int step = Format::WIDE ? 2 : 1;
#pragma unroll
      for (int i = 0; i < 4; i += step) {
        const u32* at = reinterpret_cast<const u32*>(from + Format::offset(t, i));
        if constexpr (Format::WIDE) {
          const uint4 v = exists ? *reinterpret_cast<const uint4*>(at) : make_uint4(0, 0, 0, 0);
          x[b][c][2 * i] = v.x;
          x[b][c][2 * i + 1] = v.y;
          x[b][c][2 * i + 2] = v.z;
          x[b][c][2 * i + 3] = v.w;
        } else {
          const uint2 v = exists ? *reinterpret_cast<const uint2*>(at) : make_uint2(0, 0);
          x[b][c][2 * i] = v.x;
          x[b][c][2 * i + 1] = v.y;
        }
      }
    }
  }
}

// Sums of x over the groups of a span, [group][ROWS], by a multiplication with ones.
__device__ __forceinline__ void sum_x(float* xSums, const u32 (&x)[NB][CHUNKS][8]) {
  constexpr u32 ones = BRAIN ? 0x3f803f80u : 0x3c003c00u;
  const int lane = threadIdx.x % 32;
  __syncwarp();
#pragma unroll
  for (int b = 0; b < NB; b++) {
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
#pragma unroll
      for (int group = 0; group < GROUPS_IN_CHUNK; group++) {
        float sum[4] = {};
#pragma unroll
        for (int i = group * 4 / GROUPS_IN_CHUNK; i < (group + 1) * 4 / GROUPS_IN_CHUNK; i++) {
          mma_16x8x16(sum, ones, ones, ones, ones, x[b][c][2 * i], x[b][c][2 * i + 1]);
        }
        float2* at = reinterpret_cast<float2*>(xSums + (c * GROUPS_IN_CHUNK + group) * ROWS + 8 * b) + lane;
        if (lane < (TWO ? 1 : 4)) *at = make_float2(sum[0], sum[1]);
      }
    }
  }
  __syncwarp();
}

// ---- an item -----------------------------------------------------------------------------------------------------------

// The scales of this lane's chunk in one row, and what the sum of x is multiplied by.
struct Own {
  float scale[GROUPS_IN_CHUNK], offset[GROUPS_IN_CHUNK];

  __device__ __forceinline__ void read(const u8* span, int t) {
    const ChunkScales<Format> s = Read::scales(span, t);
#pragma unroll
    for (int i = 0; i < GROUPS_IN_CHUNK; i++) {
      scale[i] = Read::FACTOR * s.scale[i];
      offset[i] = fmaf(-float(Read::START), s.scale[i], -s.min[i]);
    }
  }
  // Those of lane t = c, for its chunk.
  __device__ __forceinline__ Own of_chunk(int c) const {
    Own other;
    const int from = (threadIdx.x & 28) | c;
#pragma unroll
    for (int i = 0; i < GROUPS_IN_CHUNK; i++) {
      other.scale[i] = __shfl_sync(0xffffffffu, scale[i], from);
      other.offset[i] = Format::HAS_MIN ? __shfl_sync(0xffffffffu, offset[i], from) : 0.0f;
    }
    return other;
  }
};

// total += a chunk's products with their scales.
__device__ __forceinline__ void multiply_chunk(float (&sum)[GROUPS_IN_CHUNK][4], const u32 (&low)[8], const u32 (&high)[8],
                                               const u32 (&x)[8]) {
#pragma unroll
  for (int i = 0; i < 4; i++) {
    mma_16x8x16(sum[i * GROUPS_IN_CHUNK / 4], low[2 * i], high[2 * i], low[2 * i + 1], high[2 * i + 1], x[2 * i], x[2 * i + 1]);
  }
}
__device__ __forceinline__ void add_scaled(float (&total)[4], const Own (&own)[2], const float (&sum)[GROUPS_IN_CHUNK][4]) {
#pragma unroll
  for (int i = 0; i < GROUPS_IN_CHUNK; i++) {
#pragma unroll
    for (int j = 0; j < 4; j++) total[j] = fmaf(own[j / 2].scale[i], sum[i][j], total[j]);
  }
}
// xSums: of the chunk's first group and the lane's first column.
__device__ __forceinline__ void add_offsets(float (&total)[4], const Own (&own)[2], const float* xSums) {
#pragma unroll
  for (int i = 0; i < GROUPS_IN_CHUNK; i++) {
    const float2 sum = *reinterpret_cast<const float2*>(xSums + i * ROWS);
#pragma unroll
    for (int j = 0; j < 4; j++) total[j] = fmaf(own[j / 2].offset[i], j % 2 ? sum.y : sum.x, total[j]);
  }
}

// total = the products of an item; low, high: its span in rows g and g + 8 of the tile. With TWO the sums of lane t's own chunk.
__device__ __forceinline__ void multiply_item(Sums& total, const Problem& p, const u8* low, const u8* high,
                                              const u32 (&x)[NB][CHUNKS][8], const float* xSums) {
  const int t = threadIdx.x % 4;
  Own own[2];
  own[0].read(low, t);
  own[1].read(high, t);
  Sums pair[2] = {};
#pragma unroll
  for (int c = 0; c < CHUNKS; c++) {
    u32 lowPairs[8], highPairs[8];
    Read::pairs(lowPairs, low, c, t);
    Read::pairs(highPairs, high, c, t);
    if constexpr (TWO) {
      float sum[GROUPS_IN_CHUNK][4] = {};
      multiply_chunk(sum, lowPairs, highPairs, x[0][c]);
      if (t == c) add_scaled(pair[0][0], own, sum);
    } else {
      const Own other[2] = {own[0].of_chunk(c), own[1].of_chunk(c)};
#pragma unroll
      for (int b = 0; b < NB; b++) {
        if (8 * b >= p.m) break;
        float sum[GROUPS_IN_CHUNK][4] = {}, chunk[4] = {};
        multiply_chunk(sum, lowPairs, highPairs, x[b][c]);
        add_scaled(chunk, other, sum);
        if constexpr (Format::HAS_MIN) add_offsets(chunk, other, xSums + c * GROUPS_IN_CHUNK * ROWS + 8 * b + 2 * t);
#pragma unroll
        for (int j = 0; j < 4; j++) pair[c / 2][b][j] = c % 2 ? pair[c / 2][b][j] + chunk[j] : chunk[j];
      }
    }
  }
  if constexpr (TWO && Format::HAS_MIN) add_offsets(pair[0][0], own, xSums + t * GROUPS_IN_CHUNK * ROWS);
#pragma unroll
  for (int b = 0; b < NB; b++) {
#pragma unroll
    for (int j = 0; j < 4; j++) total[b][j] = TWO ? pair[0][b][j] : pair[0][b][j] + pair[1][b][j];
  }
}

// Where the sum of row m of x and row r of W lies among a tile's and slice's.
__device__ __forceinline__ int sum_at(int m, int r) { return m * TILE + r; }

// Adds an item's sums to those of the spans before it.
__device__ __forceinline__ void keep_sums(float* sums, const Sums& total, int m, bool first) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const auto keep = [&](int row, int r, float value) {
    if (row >= m) return;
    float* at = sums + sum_at(row, r);
    *at = first ? value : *at + value;
  };
  if constexpr (TWO) {
    // Lanes t and t ^ 1 exchange: even ones add up row 0 of x, odd ones row 1; then t and t ^ 2, rows g and g + 8 of W.
    const bool odd = t & 1, upper = t & 2;
    float half[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
      const float mine = odd ? total[0][2 * h + 1] : total[0][2 * h], other = odd ? total[0][2 * h] : total[0][2 * h + 1];
      half[h] = mine + __shfl_xor_sync(0xffffffffu, other, 1);
    }
    const float mine = upper ? half[1] : half[0], other = upper ? half[0] : half[1];
    keep(odd, upper ? g + 8 : g, mine + __shfl_xor_sync(0xffffffffu, other, 2));
  } else {
#pragma unroll
    for (int b = 0; b < NB; b++) {
#pragma unroll
      for (int j = 0; j < 4; j++) keep(8 * b + 2 * t + j % 2, g + j / 2 * 8, total[b][j]);
    }
  }
}

// Adds the slices of a step's tiles and stores D.
__device__ __forceinline__ void finish_step(const Problem& p, const Walk& walk, const float* sums, int first) {
  const bool gated = p.has(GATED);
  const int columns = columns_of_tile(p), perSlice = TILE * p.m;
  const int r = threadIdx.x % TILE;
  for (int i = threadIdx.x / TILE; i < walk.together * p.m; i += blockDim.x / TILE) {
    const int local = i / p.m, m = i - local * p.m, tile = first + int(gridDim.x) * local, column = tile * columns + r;
    if (tile >= walk.tiles || r >= columns || column >= p.n) continue;
    const float* from = sums + local * walk.slices * perSlice;
    float sum = 0.0f, up = 0.0f;
#pragma unroll 4
    for (int s = 0; s < walk.slices; s++) {
      sum += from[s * perSlice + sum_at(m, r)];
      if (gated) up += from[s * perSlice + sum_at(m, r + TILE / 2)];
    }
    if (gated) p.finish_gated(m, column, sum, up);
    else p.finish(m, column, sum);
  }
}

// The kernel, once the first item is on its way. A Ring has STAGES slots: `fetch(slot)` asks for the warp's next item, if there is
// one; `wait(slot)` returns when the slot's item is there; `row(slot, half, tile, span)` is where its span begins in row g or g + 8.
template <class Ring>
__device__ __forceinline__ void multiply_all(const Problem& p, const Walk& walk, Ring& ring, float* xSums, float* sums) {
  const int grid = gridDim.x;
  u32 x[NB][CHUNKS][8];
  int held = walk.slice;
  load_x(x, p, held);
#pragma unroll 1
  for (int s = 1; s < Ring::STAGES; s++) ring.fetch(s);
  if constexpr (Format::HAS_MIN) sum_x(xSums, x);
  int slot = 0;
  for (int first = blockIdx.x; first < walk.tiles;) {
    for (int span = walk.slice; span < walk.spans; span += walk.slices) {
      if (span != held) {
        held = span;
        load_x(x, p, span);
        if constexpr (Format::HAS_MIN) sum_x(xSums, x);
      }
      for (int local = walk.part; local < walk.together && first + grid * local < walk.tiles; local += walk.parts) {
        ring.wait(slot);
        Sums total;
        const int tile = first + grid * local;
        multiply_item(total, p, ring.row(slot, 0, tile, span), ring.row(slot, 1, tile, span), x, xSums);
        keep_sums(sums + (local * walk.slices + walk.slice) * (TILE * p.m), total, p.m, span == walk.slice);
        __syncwarp();
        ring.fetch(slot);
        if (++slot == Ring::STAGES) {
          slot = 0;
          ring.turn();
        }
      }
    }
    __syncthreads();
    finish_step(p, walk, sums, first);
    first += grid * walk.together;
    if (first < walk.tiles) __syncthreads();
  }
}
