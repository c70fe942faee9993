// Few rows times a weight in 4-bit codes where a copy engine brings the codes: D[M, N] = x[M, K] · W[N, K]^T, M = 1..16, f16 and
// bf16, sm_90 and newer. The same decoding, fragments and scaled sums as code4-mma.cu, which see; what differs is how data comes
// and where x and the sums are.
//
//            k ->
//      +--------+--------+--------+---     A tile is 16 rows of W. Warp w has the spans (256 values of K) w, w + slices, ...:
//  W   | warp 0 | warp 1 | warp 2 | ..     where K has as many spans as a block has warps (4096 and 16), one span only, for
//      +--------+--------+--------+---     which its lanes keep x in registers from the first tile to the last.
//      | warp 0 | warp 1 | warp 2 | ..     Blocks take tiles in turns, and groups of tiles at once: a warp leaves its sums of every
//      +--------+--------+--------+---     tile in shared memory and goes on, and the block meets once a group to add the slices.
//
// Codes: each warp has a ring of boxes (16 rows x 128 bytes: every line of memory is read whole), which it fills itself: as soon
// as a box is read, the next one is asked for in its place. Boxes are swizzled by the copy engine and read eight bytes a lane;
// that rows of half a warp differ in their lower two bits keeps them in different banks.
// Absmax: of a group's, or all of the block's tiles, float32 in shared memory; in blocks of 64 by bulk copies, otherwise (nested,
// or larger blocks) loaded and expanded by all threads before a group begins.
//
// The prologue is most of what can be lost: a launch whose blocks have one tile each takes 4.4 us. So the first boxes and absmax
// are asked for before anything else, and the others only after x: a full ring ahead of x would make x wait for it.
// Limit: W's bytes. 14336 x 4096: 33 MB, 10.1 us at an H100's 3.27 TB/s; the accesses to shared memory, 16 warps' for a tile, are
// 1760 clocks (64 of 110 for a box are look-ups of pairs), 7 us.
// Needs K a multiple of 256, blocks of 64 values or more (64, where absmax is nested), rows of x that start on 16 bytes.
// Grid, block and shared memory: bulkBlock in layout.ts. Sums: by chunk in k order, then the slices in order.
#include "quant.cuh"
#include "../common/launch.cuh"
#include "../matmul/bulk-copy.cuh"
#include "../matmul/tensor-core.cuh"
#include "code4-decode.cuh"

constexpr int THREADS = 512, STAGES = 2;
constexpr int NB = VARIANT_ROWS / 8; // groups of 8 rows of x
constexpr int TILE = 16, CHUNKS = SPAN / CHUNK;
constexpr int BOX_BYTES = TILE * SPAN / 2; // codes of a tile's rows over a span
constexpr int SCALE_SPANS = 8;             // spans whose absmax are in one box: 128 bytes a row
constexpr int SCALE_BYTES = TILE * SCALE_SPANS * CHUNKS * 4;
constexpr int NESTED_BYTES = 256 * 4, BARRIER_BYTES = 512;
using Table = PairTable<256>;

// What a block does, and a warp in it.
struct Walk {
  int tiles, spans;       // of the whole product
  int together, parts;    // tiles of a group; warps that share a slice of K take them in turns
  int slices, slice, part;
};

// The warp's boxes in order: groups, in a group the spans of its slice, in a span its tiles of the group.
struct Cursor {
  int first, local, span; // the group's first tile, which of its tiles, the span

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

// The first row of a tile in one of W's planes: a gated product has two, and eight rows of each in a tile.
__device__ __forceinline__ int first_row(const Problem& p, int tile) { return tile * (p.has(GATED) ? TILE / 2 : TILE); }

// Absmax in shared memory: of each tile, boxes of 16 rows of 128 bytes, swizzled as the copy engine does it.
struct Scales {
  u8* boxes;
  int perTile; // boxes

  __device__ __forceinline__ u8* at(int tile, int span, int row) const {
    return boxes + (tile * perTile + span / SCALE_SPANS) * SCALE_BYTES + row * 128 + ((span ^ row) % SCALE_SPANS) * 16;
  }

  // Float32 absmax of blocks of 64: a tile's, by one thread.
  __device__ __forceinline__ void fetch(const Problem& p, const TensorMap* map, int local, int tile, u32 barrier) const {
    barrier_expect_bytes(barrier, perTile * SCALE_BYTES);
    for (int b = 0; b < perTile; b++) {
      load_box(to_shared(at(local, SCALE_SPANS * b, 0)), map, 0, first_row(p, tile), SCALE_SPANS * CHUNKS * b, barrier);
    }
  }

  // Any other: `count` tiles from `first` on, by all threads, which pass a barrier: nestedTable may be stored right before.
  // BATCH: spans of a thread whose loads are under way at once.
  template <int BATCH>
  __device__ __forceinline__ void fill(const Problem& p, const Absmax& absmax, const Walk& walk, const float* nestedTable,
                                       int first, int count) const {
    const int all = count * TILE * walk.spans;
    for (int begin = 0; begin < all; begin += BATCH * blockDim.x) {
      float4 v[BATCH]; // of a span; nested: its codes, and the absmax of their block
#pragma unroll
      for (int j = 0; j < BATCH; j++) {
        const int i = begin + j * blockDim.x + threadIdx.x, row = i / walk.spans;
        if (i >= all) break;
        const int tile = min(first + int(gridDim.x) * (row / TILE), walk.tiles - 1);
        const i64 k = weight_row<TILE>(p, tile, row % TILE) * p.k + SPAN * (i % walk.spans);
        if (absmax.nestedAbsmax) {
          const i64 b = k >> 6;
          v[j].x = *reinterpret_cast<const float*>(static_cast<const u8*>(absmax.values) + b);
          v[j].y = absmax.nestedAbsmax[b >> 8];
        } else {
          const float* values = static_cast<const float*>(absmax.values);
          v[j] = {values[k >> absmax.shift], values[(k + CHUNK) >> absmax.shift], values[(k + 2 * CHUNK) >> absmax.shift],
                  values[(k + 3 * CHUNK) >> absmax.shift]};
        }
      }
      if (begin == 0) __syncthreads();
#pragma unroll
      for (int j = 0; j < BATCH; j++) {
        const int i = begin + j * blockDim.x + threadIdx.x, row = i / walk.spans;
        if (i >= all) break;
        if (absmax.nestedAbsmax) {
          const u32 codes = __float_as_uint(v[j].x);
          const auto expand = [&](u32 code) { return __fadd_rn(__fmul_rn(nestedTable[code], v[j].y), absmax.nestedOffset); };
          v[j] = {expand(codes & 255u), expand(codes >> 8 & 255u), expand(codes >> 16 & 255u), expand(codes >> 24)};
        }
        *reinterpret_cast<float4*>(at(row / TILE, i % walk.spans, row % TILE)) = v[j];
      }
    }
  }
};

// The pairs of x of this lane over a span: of rows that do not exist, what was there.
__device__ __forceinline__ void load_x(u32 (&x)[NB][CHUNKS][8], const Problem& p, int span) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (int b = 0; b < NB; b++) {
    if (8 * b + g >= p.m) continue;
    const scalar_t* from = p.a + (8 * b + g) * p.lda + SPAN * span + Format::offset(t, 0);
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const uint4 v = *reinterpret_cast<const uint4*>(from + CHUNK * c + 8 * i);
        x[b][c][4 * i] = v.x;
        x[b][c][4 * i + 1] = v.y;
        x[b][c][4 * i + 2] = v.z;
        x[b][c][4 * i + 3] = v.w;
      }
    }
  }
}

// total += the products of a box with x, chunk by chunk.
__device__ __forceinline__ void multiply_box(float (&total)[NB][4], const Table& table, const u8* box, u32 first,
                                             const float4 (&scale)[2], const u32 (&x)[NB][CHUNKS][8]) {
#pragma unroll
  for (int c = 0; c < CHUNKS; c++) {
    const float own[2] = {of_chunk(scale[0], c), of_chunk(scale[1], c)};
    u32 low[8], high[8];
    const u8* from = box + (first ^ c << 5);
    table.decode(low, *reinterpret_cast<const uint2*>(from), own[0]);
    table.decode(high, *reinterpret_cast<const uint2*>(from + BOX_BYTES / 2), own[1]);
#pragma unroll
    for (int b = 0; b < NB; b++) {
      float sum[4] = {};
#pragma unroll
      for (int i = 0; i < 4; i++) {
        mma_16x8x16(sum, low[2 * i], high[2 * i], low[2 * i + 1], high[2 * i + 1], x[b][c][2 * i], x[b][c][2 * i + 1]);
      }
#pragma unroll
      for (int j = 0; j < 4; j++) total[b][j] = fmaf(ROUNDED ? 1.0f : own[j / 2], sum[j], total[b][j]);
    }
  }
}

// The sums of a tile over a slice: where that of row m of x and row r of W lies. What a warp stores, and what it loads along
// r, meets every bank once.
__device__ __forceinline__ int sum_at(int m, int r) { return m * TILE + (r ^ (m & 4) * 2); }

// Lane (g, t) has columns 2t and 2t + 1 of two rows: odd t take the second column first, so that at one time even and odd
// columns are stored.
struct TileSums {
  float* base;
  int m, row, t; // rows of x; the lane's row of W, and its columns

  __device__ __forceinline__ int column(int b, int i) const { return 8 * b + 2 * t + (i ^ (t & 1)); }
  __device__ __forceinline__ void store(const float (&total)[NB][4]) const {
#pragma unroll
    for (int b = 0; b < NB; b++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        if (column(b, i) >= m) continue;
        base[sum_at(column(b, i), row)] = t & 1 ? total[b][1 - i] : total[b][i];
        base[sum_at(column(b, i), row + 8)] = t & 1 ? total[b][3 - i] : total[b][2 + i];
      }
    }
  }
  __device__ __forceinline__ void load(float (&total)[NB][4]) const {
#pragma unroll
    for (int b = 0; b < NB; b++) {
      float v[4] = {};
#pragma unroll
      for (int i = 0; i < 2; i++) {
        if (column(b, i) >= m) continue;
        v[i] = base[sum_at(column(b, i), row)];
        v[2 + i] = base[sum_at(column(b, i), row + 8)];
      }
#pragma unroll
      for (int i = 0; i < 4; i++) total[b][i] = t & 1 ? v[i ^ 1] : v[i];
    }
  }
};

// Adds the slices of a group's tiles and stores D: half a warp for each row of x and tile.
__device__ __forceinline__ void finish_group(const Problem& p, const Walk& walk, const float* sums, int first, float factor) {
  const bool gated = p.has(GATED);
  const int columns = gated ? TILE / 2 : TILE;
  const int r = threadIdx.x % TILE, perSlice = walk.together * TILE * p.m;
  const int shift = 32 - __clz(p.m - 1); // as if M were a power of two: no division
  for (int i = threadIdx.x / TILE; i < walk.together << shift; i += blockDim.x / TILE) {
    const int m = i & ((1 << shift) - 1), local = i >> shift, tile = first + int(gridDim.x) * local;
    const int column = tile * columns + r;
    if (m >= p.m || tile >= walk.tiles || r >= columns || column >= p.n) continue;
    const float* from = sums + local * TILE * p.m;
    float sum = 0.0f, up = 0.0f;
#pragma unroll 8
    for (int s = 0; s < walk.slices; s++) sum += from[s * perSlice + sum_at(m, r)];
    if (gated) {
#pragma unroll 8
      for (int s = 0; s < walk.slices; s++) up += from[s * perSlice + sum_at(m, r + TILE / 2)];
      p.finish_gated(m, column, sum * factor, up * factor);
    } else {
      p.finish(m, column, sum * factor);
    }
  }
}

// resident: tiles whose absmax is in shared memory at once; `together`, or all of a block's.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    KERNEL_NAME(const __grid_constant__ TensorMap codes, const __grid_constant__ TensorMap absmaxMap, QUANT_PARAMETERS, int slices,
                int parts, int together, int resident) {
  QUANT_PROBLEM
  extern __shared__ __align__(1024) u8 shared[];
  const int warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int part = parts == 1 ? 0 : warp / slices;
  const Walk walk = {p.has(GATED) ? tiles_of(p.n, TILE / 2) : tiles_of(p.n, TILE), p.k / SPAN, together, parts, slices,
                     warp - part * slices, part};
  const Absmax stored = CODE4_ABSMAX;
  const bool bulkScales = stored.shift == 6 && !stored.nestedAbsmax;

  const Table table = {shared};
  u8* rings = shared + Table::BYTES;
  u8* boxes = rings + warp * STAGES * BOX_BYTES;
  const Scales scales = {rings + warps * STAGES * BOX_BYTES, tiles_of(walk.spans, SCALE_SPANS)};
  float* nestedTable = reinterpret_cast<float*>(scales.boxes + resident * scales.perTile * SCALE_BYTES);
  float* sums = nestedTable + (NESTED_BYTES + BARRIER_BYTES) / 4;
  const u32 barriers = to_shared(nestedTable) + NESTED_BYTES;
  const u32 full = barriers + warp * STAGES * 8, scalesFull = barriers + warps * STAGES * 8; // of boxes, of a tile's absmax

  Cursor ahead = {int(blockIdx.x), part, walk.slice};
  const auto fetch = [&](int slot) {
    if (!ahead.valid(walk)) return;
    if (lane == 0) {
      barrier_expect_bytes(full + 8 * slot, BOX_BYTES);
      load_box(to_shared(boxes + slot * BOX_BYTES), &codes, 0, first_row(p, ahead.tile()), ahead.span * (SPAN / 2), full + 8 * slot);
    }
    ahead.next(walk);
  };
  const auto fetch_scales = [&](int first, int from, int to) { // tiles `from` to `to` after `first`: one a lane, by the last warp
    const int tile = first + int(gridDim.x) * lane;
    if (warp != warps - 1 || lane < from || lane >= to || tile >= walk.tiles) return;
    scales.fetch(p, &absmaxMap, lane, tile, scalesFull + 8 * lane);
  };
  if (lane == 0) {
    for (int s = 0; s < STAGES; s++) barrier_init(full + 8 * s, 1);
    if (warp == warps - 1) {
      for (int i = 0; i < resident; i++) barrier_init(scalesFull + 8 * i, 1);
    }
    barrier_init_fence();
  }
  __syncwarp();

  // ---- weights, which no kernel before has written, and then x
  fetch(0);
  const float level = code[threadIdx.x % 16];
  if (bulkScales) {
    fetch_scales(blockIdx.x, 0, parts);
  } else {
    if (nestedAbsmax && threadIdx.x < 256) nestedTable[threadIdx.x] = nestedCode[threadIdx.x];
    scales.fill<4>(p, stored, walk, nestedTable, blockIdx.x, resident);
  }
  allow_next();
  wait_for_previous();
  u32 x[NB][CHUNKS][8] = {};
  int held = walk.slice;
  load_x(x, p, held);
  table.fill(level * levelScale);
#pragma unroll 1
  for (int s = 1; s < STAGES; s++) fetch(s);
  if (bulkScales) fetch_scales(blockIdx.x, parts, resident);
  __syncthreads();

  const float factor = 1.0f / levelScale;
  const int row = (g & 3) * 2 + (g >> 2); // of the box
  const u32 offset = row * (SPAN / 2) + (((t >> 1) ^ row) << 4) + (t & 1) * 8;
  int slot = 0, before = 0; // before: tiles ahead of the group whose absmax is resident, too
  u32 parity = 0, refilled = 0;
  for (int first = blockIdx.x; first < walk.tiles;) {
    for (int span = walk.slice; span < walk.spans; span += slices) {
      if (span != held) {
        held = span;
        load_x(x, p, span);
      }
      for (int local = part; local < together && first + int(gridDim.x) * local < walk.tiles; local += parts) {
        const TileSums own = {sums + (walk.slice * together + local) * TILE * p.m, p.m, row, t};
        float total[NB][4] = {};
        if (span != walk.slice) own.load(total);
        if (bulkScales) barrier_wait_block(scalesFull + 8 * (before + local), refilled);
        barrier_wait_block(full + 8 * slot, parity);
        const u8* ofSpan = scales.at(before + local, span, row);
        const float4 scale[2] = {*reinterpret_cast<const float4*>(ofSpan), *reinterpret_cast<const float4*>(ofSpan + 8 * 128)};
        multiply_box(total, table, boxes + slot * BOX_BYTES, offset, scale, x);
        own.store(total);
        __syncwarp();
        fetch(slot);
        if (++slot == STAGES) {
          slot = 0;
          parity ^= 1;
        }
      }
    }
    __syncthreads();
    const int next = first + int(gridDim.x) * together;
    const bool more = next < walk.tiles;
    if (resident != together) {
      before += together;
    } else if (more) {
      if (bulkScales) fetch_scales(next, 0, resident);
      else scales.fill<2 / NB>(p, stored, walk, nestedTable, next, resident);
      refilled ^= 1;
    }
    finish_group(p, walk, sums, first, factor);
    if (more) __syncthreads();
    first = next;
  }
}
