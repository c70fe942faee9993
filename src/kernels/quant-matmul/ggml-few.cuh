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
// the span's four chunks, its own: chunk t. For up to 2 rows of x (ROWS = 2) that is enough. The eight columns of the
// multiplication are then the four chunks of both rows, each with zeros in place of the other chunks: one accumulator takes a
// group of every chunk, in 8 multiplications, and lane t finds its own chunk's sums in it. For more rows all columns count: lanes
// add up all chunks and ask each other for scales. Both ways add the same numbers in the same order.
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
constexpr int X_SUMS_BYTES = Format::HAS_MIN && !TWO ? GROUPS_IN_SPAN * ROWS * 4 : 0; // of a warp; with TWO they are in registers
using Sums = float[NB][4];
using GroupSums = float[GROUPS_IN_CHUNK][4];

// Gated, a tile is eight gates and the ups of the same columns of D.
__device__ __forceinline__ int columns_of_tile(const Problem& p) { return p.has(GATED) ? TILE / 2 : TILE; }

// What a warp takes, in this order: for every step of `together` tiles, for every span of its slice, for every tile of the step
// that is its own. `parts` warps share a slice and take tiles in turns. Tiles are dealt to blocks in turns, too.
struct Walk {
  int tiles, spans, slices, parts, together, slice, part;

  __device__ __forceinline__ Walk(const Problem& p, int slices_, int parts_, int together_)
      : tiles(p.has(GATED) ? tiles_of(p.n, TILE / 2) : tiles_of(p.n, TILE)), spans(tiles_of(p.k, SPAN)), slices(slices_), parts(parts_),
        together(together_) {
    const int warp = threadIdx.x / 32;
    part = parts == 1 ? 0 : warp / slices;
    slice = warp - part * slices;
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

// x of a span, and its sums. Column g of the multiplication is row 8 b + g of x; with TWO, row g % 2 and chunk g / 2 alone, all
// else being zero.
struct Held {
  static constexpr int LOADED = TWO ? 1 : CHUNKS; // chunks of a lane
  u32 raw[NB][LOADED][8];                         // what is on its way
  u32 pairs[NB][CHUNKS][8];
  float sum[GROUPS_IN_CHUNK][2]; // with TWO: over the groups of the lane's chunk t, of both rows

  __device__ __forceinline__ void fetch(const Problem& p, int span);
  __device__ __forceinline__ void take(float* sums);
  __device__ __forceinline__ void sum_up(float* sums);
};

// Zeros for a row that does not exist, and behind K.
__device__ __forceinline__ void Held::fetch(const Problem& p, int span) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (int b = 0; b < NB; b++) {
    const int row = TWO ? g % 2 : 8 * b + g;
#pragma unroll
    for (int l = 0; l < LOADED; l++) {
      const int k = SPAN * span + CHUNK * (TWO ? g / 2 : l);
      const bool exists = row < p.m && (Format::VALUES == 256 || k < p.k);
      const scalar_t* from = p.a + row * p.lda + k;
      constexpr int step = Format::WIDE ? 2 : 1;
#pragma unroll
      for (int i = 0; i < 4; i += step) {
        const u32* at = reinterpret_cast<const u32*>(from + Format::offset(t, i));
        if constexpr (Format::WIDE) {
          const uint4 v = exists ? *reinterpret_cast<const uint4*>(at) : make_uint4(0, 0, 0, 0);
          raw[b][l][2 * i] = v.x;
          raw[b][l][2 * i + 1] = v.y;
          raw[b][l][2 * i + 2] = v.z;
          raw[b][l][2 * i + 3] = v.w;
        } else {
          const uint2 v = exists ? *reinterpret_cast<const uint2*>(at) : make_uint2(0, 0);
          raw[b][l][2 * i] = v.x;
          raw[b][l][2 * i + 1] = v.y;
        }
      }
    }
  }
}

// From what has come to all the others.
__device__ __forceinline__ void Held::take(float* sums) {
  if constexpr (Format::HAS_MIN) sum_up(sums);
  const int g = threadIdx.x % 32 / 4;
#pragma unroll
  for (int b = 0; b < NB; b++) {
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
#pragma unroll
      for (int i = 0; i < 8; i++) pairs[b][c][i] = TWO ? (g / 2 == c ? raw[b][0][i] : 0) : raw[b][c % LOADED][i];
    }
  }
}

// By a multiplication with ones; those in shared memory as [group][ROWS].
__device__ __forceinline__ void Held::sum_up(float* sums) {
  const int lane = threadIdx.x % 32;
  const u32 ones = from_float<scalar_t>(1.0f).bits * 0x00010001u;
  if constexpr (!TWO) __syncwarp();
#pragma unroll
  for (int b = 0; b < NB; b++) {
#pragma unroll
    for (int l = 0; l < LOADED; l++) {
      GroupSums total = {};
#pragma unroll
      for (int i = 0; i < 4; i++) {
        mma_16x8x16(total[i * GROUPS_IN_CHUNK / 4], ones, ones, ones, ones, raw[b][l][2 * i], raw[b][l][2 * i + 1]);
      }
#pragma unroll
      for (int group = 0; group < GROUPS_IN_CHUNK; group++) {
        if constexpr (TWO) {
          sum[group][0] = total[group][0];
          sum[group][1] = total[group][1];
        } else if (lane < 4) {
          float2* at = reinterpret_cast<float2*>(sums + (l * GROUPS_IN_CHUNK + group) * ROWS + 8 * b) + lane;
          *at = make_float2(total[group][0], total[group][1]);
        }
      }
    }
  }
  if constexpr (!TWO) __syncwarp();
}

// ---- an item -----------------------------------------------------------------------------------------------------------

// The scales of this lane's chunk in one row, and what the sum of x is multiplied by.
struct Own {
  float scale[GROUPS_IN_CHUNK], offset[GROUPS_IN_CHUNK];

  __device__ __forceinline__ void read(const u8* span, int t) {
    const ChunkScales<Format> s = Read::scales(span, t);
#pragma unroll
    for (int i = 0; i < GROUPS_IN_CHUNK; i++) {
      scale[i] = s.scale[i];
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

// sum += a chunk's products.
__device__ __forceinline__ void multiply_chunk(GroupSums& sum, const u32 (&low)[8], const u32 (&high)[8], const u32 (&x)[8]) {
#pragma unroll
  for (int i = 0; i < 4; i++) {
    mma_16x8x16(sum[i * GROUPS_IN_CHUNK / 4], low[2 * i], high[2 * i], low[2 * i + 1], high[2 * i + 1], x[2 * i], x[2 * i + 1]);
  }
}
__device__ __forceinline__ void add_scaled(float (&total)[4], const Own (&own)[2], const GroupSums& sum) {
#pragma unroll
  for (int i = 0; i < GROUPS_IN_CHUNK; i++) {
#pragma unroll
    for (int j = 0; j < 4; j++) total[j] = i ? fmaf(own[j / 2].scale[i], sum[i][j], total[j]) : own[j / 2].scale[i] * sum[i][j];
  }
}
// first, second: sums of x over group i, for the lane's two columns.
__device__ __forceinline__ void add_offset(float (&total)[4], const Own (&own)[2], int i, float first, float second) {
#pragma unroll
  for (int j = 0; j < 4; j++) total[j] = fmaf(own[j / 2].offset[i], j % 2 ? second : first, total[j]);
}

// total = the products of an item; low, high: its span in rows g and g + 8 of the tile. With TWO those of lane t's own chunk.
__device__ __forceinline__ void multiply_item(Sums& total, const Problem& p, const u8* low, const u8* high, const Held& x,
                                              const float* xSums) {
  const int t = threadIdx.x % 4;
  Own own[2];
  own[0].read(low, t);
  own[1].read(high, t);
  if constexpr (TWO) {
    GroupSums sum = {};
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
      u32 lowPairs[8], highPairs[8];
      Read::pairs(lowPairs, low, c, t);
      Read::pairs(highPairs, high, c, t);
      multiply_chunk(sum, lowPairs, highPairs, x.pairs[0][c]);
    }
    add_scaled(total[0], own, sum);
#pragma unroll
    for (int i = 0; i < GROUPS_IN_CHUNK; i++) {
      if (Format::HAS_MIN) add_offset(total[0], own, i, x.sum[i][0], x.sum[i][1]);
    }
  } else {
    Sums pair[2] = {};
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
      u32 lowPairs[8], highPairs[8];
      Read::pairs(lowPairs, low, c, t);
      Read::pairs(highPairs, high, c, t);
      const Own other[2] = {own[0].of_chunk(c), own[1].of_chunk(c)};
#pragma unroll
      for (int b = 0; b < NB; b++) {
        if (8 * b >= p.m) break;
        GroupSums sum = {};
        float chunk[4];
        multiply_chunk(sum, lowPairs, highPairs, x.pairs[b][c]);
        add_scaled(chunk, other, sum);
#pragma unroll
        for (int i = 0; i < GROUPS_IN_CHUNK; i++) {
          if constexpr (Format::HAS_MIN) {
            const float2 v = reinterpret_cast<const float2*>(xSums + (c * GROUPS_IN_CHUNK + i) * ROWS + 8 * b)[t];
            add_offset(chunk, other, i, v.x, v.y);
          }
        }
#pragma unroll
        for (int j = 0; j < 4; j++) pair[c / 2][b][j] = c % 2 ? pair[c / 2][b][j] + chunk[j] : chunk[j];
      }
    }
#pragma unroll
    for (int b = 0; b < NB; b++) {
#pragma unroll
      for (int j = 0; j < 4; j++) total[b][j] = pair[0][b][j] + pair[1][b][j];
    }
  }
}

// Where the sum of row m of x and row r of W lies among a tile's and slice's.
__device__ __forceinline__ int sum_at(int m, int r) { return m * TILE + r; }

// Where a warp keeps its sums of a tile. low, high: the rows of the tile that are this lane's g and g + 8.
struct Kept {
  float* at; // of the step's first tile
  int next;  // floats from one tile to the next
  int low, high;

  __device__ __forceinline__ Kept(const Walk& walk, float* sums, int m, int low_, int high_)
      : at(sums + walk.slice * TILE * m), next(walk.slices * TILE * m), low(low_), high(high_) {
    const int t = threadIdx.x % 4;
    if (TWO) at += sum_at(t & 1, t & 2 ? high : low);
  }
  // Adds the sums of an item to those of the spans before it.
  __device__ __forceinline__ void add(int local, const Sums& total, int m, bool first) const {
    const int t = threadIdx.x % 4;
    const auto keep = [&](int row, float* place, float value) {
      if (row >= m) return;
      *place = first ? value : *place + value;
    };
    float* tile = at + local * next;
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
      keep(odd, tile, mine + __shfl_xor_sync(0xffffffffu, other, 2));
    } else {
#pragma unroll
      for (int b = 0; b < NB; b++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
          const int row = 8 * b + 2 * t + j % 2;
          keep(row, tile + sum_at(row, j < 2 ? low : high), total[b][j]);
        }
      }
    }
  }
};

// Adds the slices of a step's tiles and stores D.
__device__ __forceinline__ void finish_step(const Problem& p, const Walk& walk, const float* sums, int first) {
  const bool gated = p.has(GATED);
  const int columns = columns_of_tile(p), perSlice = TILE * p.m, r = threadIdx.x % TILE;
  const int shift = 32 - __clz(p.m - 1); // as if M were a power of two: no division
  for (int i = threadIdx.x / TILE; i < walk.together << shift; i += blockDim.x / TILE) {
    const int m = i & ((1 << shift) - 1), local = i >> shift;
    const int tile = first + int(gridDim.x) * local, column = tile * columns + r;
    if (m >= p.m || tile >= walk.tiles || r >= columns || column >= p.n) continue;
    const float* from = sums + local * walk.slices * perSlice;
    float sum = 0.0f, up = 0.0f;
#pragma unroll 8
    for (int s = 0; s < walk.slices; s++) {
      sum += from[s * perSlice + sum_at(m, r)];
      if (gated) up += from[s * perSlice + sum_at(m, r + TILE / 2)];
    }
    if (gated) p.finish_gated(m, column, sum, up);
    else p.finish(m, column, sum);
  }
}

// The kernel, once the first item is on its way. A Ring has STAGES slots: `fetch(slot)` asks for the warp's next item, if there is
// one; `wait(slot)` returns when the slot's item is there; row_of(h) is which row of a tile lane g has as its g (h = 0) or g + 8
// (h = 1), and row(slot, h, tile, span) where that row's span begins.
template <class Ring>
__device__ __forceinline__ void multiply_all(const Problem& p, const Walk& walk, Ring& ring, float* xSums, float* sums) {
  const int grid = gridDim.x;
  const Kept kept(walk, sums, p.m, ring.row_of(0), ring.row_of(1));
  Held x;
  int held = walk.slice;
  x.fetch(p, held);
#pragma unroll 1
  for (int s = 1; s < Ring::STAGES; s++) ring.fetch(s);
  x.take(xSums);
  int slot = 0;
  for (int first = blockIdx.x; first < walk.tiles;) {
    const int after = first + grid * walk.together;
    for (int span = walk.slice; span < walk.spans; span += walk.slices) {
      if (span != held) {
        if constexpr (!TWO) x.fetch(p, span);
        x.take(xSums);
        held = span;
      }
      if constexpr (TWO) { // what comes next is on its way meanwhile
        const int next = span + walk.slices < walk.spans ? span + walk.slices : walk.slice;
        if (next != held && (next > held || after < walk.tiles)) x.fetch(p, next);
      }
      for (int local = walk.part; local < walk.together && first + grid * local < walk.tiles; local += walk.parts) {
        ring.wait(slot);
        Sums total;
        const int tile = first + grid * local;
        multiply_item(total, p, ring.row(slot, 0, tile, span), ring.row(slot, 1, tile, span), x, xSums);
        kept.add(local, total, p.m, span == walk.slice);
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
    first = after;
    if (first < walk.tiles) __syncthreads();
  }
}
