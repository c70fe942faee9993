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
// The prologue is what can be lost: the first boxes take twice as long as their bytes at full speed, and every instruction ahead
// of them costs several clocks, for nothing hides it. So the first thing that a warp does is to ask for the levels (to shared memory:
// the loads of x would wait for those to a register) and its first box, by ordinary asynchronous copies, which need neither a
// barrier nor a tensor map. Then come the first absmax, the table, x, and, where x is much or all there is besides, only then the
// second boxes: ahead of x, they would make it wait.
// Limit: W's bytes. 14336 x 4096: 33 MB, 10.7 us at an H100's 3.1 TB/s, 7.4 us at an H200's 4.4; the accesses to shared memory, 16
// warps' for a tile, are 1760 clocks (64 of 110 for a box are look-ups of pairs), 7 us.
// Needs K a multiple of 256, blocks of 64 values or more (64, where absmax is nested), rows of x that start on 16 bytes.
// Grid, block and shared memory: bulkBlock in layout.ts. Sums: by chunk in k order, then the slices in order.
#include "quant.cuh"
#include "../common/launch.cuh"
#include "../matmul/bulk-copy.cuh"
#include "../matmul/tensor-core.cuh"
#include "code4-decode.cuh"

constexpr int THREADS = 512, STAGES = 2; // boxes of a ring
constexpr int NB = VARIANT_ROWS / 8; // groups of 8 rows of x
constexpr int TILE = 16, CHUNKS = SPAN / CHUNK;
constexpr int BOX_BYTES = TILE * SPAN / 2; // codes of a tile's rows over a span
constexpr int SCALE_SPANS = 8;             // spans whose absmax are in one box: 128 bytes a row
constexpr int SCALE_BYTES = TILE * SCALE_SPANS * CHUNKS * 4;
constexpr int NESTED_BYTES = 256 * 4, BARRIER_BYTES = 1024; // boxes start on 1024
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
    const u32 reciprocal = 0xffffffffu / u32(walk.spans) + 1; // i / spans is the upper half of i * reciprocal
    for (int begin = 0; begin < all; begin += BATCH * blockDim.x) {
      float4 v[BATCH]; // of a span; nested: its codes, and the absmax of their block
#pragma unroll
      for (int j = 0; j < BATCH; j++) {
        const int i = begin + j * blockDim.x + threadIdx.x, row = walk.spans == 1 ? i : int(__umulhi(i, reciprocal));
        if (i >= all) break;
        const int tile = min(first + int(gridDim.x) * (row / TILE), walk.tiles - 1);
        const i64 k = weight_row<TILE>(p, tile, row % TILE) * p.k + SPAN * (i - row * walk.spans);
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
        const int i = begin + j * blockDim.x + threadIdx.x, row = walk.spans == 1 ? i : int(__umulhi(i, reciprocal));
        if (i >= all) break;
        if (absmax.nestedAbsmax) {
          const u32 codes = __float_as_uint(v[j].x);
          const auto expand = [&](u32 code) { return __fadd_rn(__fmul_rn(nestedTable[code], v[j].y), absmax.nestedOffset); };
          v[j] = {expand(codes & 255u), expand(codes >> 8 & 255u), expand(codes >> 16 & 255u), expand(codes >> 24)};
        }
        *reinterpret_cast<float4*>(at(row / TILE, i - row * walk.spans, row % TILE)) = v[j];
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

// A box's codes in registers: of both of this lane's rows, eight bytes a chunk. `first`: of the lane's bytes of chunk 0.
struct Codes {
  uint2 low[CHUNKS], high[CHUNKS];

  __device__ __forceinline__ Codes(const u8* box, u32 first) {
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
      const u8* from = box + (first ^ c << 5);
      low[c] = *reinterpret_cast<const uint2*>(from);
      high[c] = *reinterpret_cast<const uint2*>(from + BOX_BYTES / 2);
    }
  }
};

// total += the products of a box with x, chunk by chunk.
__device__ __forceinline__ void multiply_box(float (&total)[NB][4], const Table& table, const Codes& codes, const float4 (&scale)[2],
                                             const u32 (&x)[NB][CHUNKS][8]) {
#pragma unroll
  for (int c = 0; c < CHUNKS; c++) {
    const float own[2] = {of_chunk(scale[0], c), of_chunk(scale[1], c)};
    u32 low[8], high[8];
    table.decode(low, codes.low[c], own[0]);
    table.decode(high, codes.high[c], own[1]);
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
  int at[NB][2]; // of the lane's columns in its first row, negative past the last column; in its second row: at ^ 8
  bool odd;

  __device__ __forceinline__ TileSums(int m, int row, int t) : odd(t & 1) {
#pragma unroll
    for (int b = 0; b < NB; b++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int column = 8 * b + 2 * t + (i ^ (t & 1));
        at[b][i] = column < m ? sum_at(column, row) : -1;
      }
    }
  }
  __device__ __forceinline__ void store(float* base, const float (&total)[NB][4]) const {
#pragma unroll
    for (int b = 0; b < NB; b++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        if (at[b][i] < 0) continue;
        base[at[b][i]] = odd ? total[b][1 - i] : total[b][i];
        base[at[b][i] ^ 8] = odd ? total[b][3 - i] : total[b][2 + i];
      }
    }
  }
  __device__ __forceinline__ void load(const float* base, float (&total)[NB][4]) const {
#pragma unroll
    for (int b = 0; b < NB; b++) {
      float v[4] = {};
#pragma unroll
      for (int i = 0; i < 2; i++) {
        if (at[b][i] < 0) continue;
        v[i] = base[at[b][i]];
        v[2 + i] = base[at[b][i] ^ 8];
      }
#pragma unroll
      for (int i = 0; i < 4; i++) total[b][i] = odd ? v[i ^ 1] : v[i];
    }
  }
};

// Adds the slices of a group's tiles and stores D: half a warp for each row of x and tile.
__device__ __forceinline__ void finish_group(const Problem& p, const Walk& walk, const float* sums, int first, float factor) {
  const bool gated = p.has(GATED);
  const int columns = gated ? TILE / 2 : TILE;
  const int r = threadIdx.x % TILE, perSlice = walk.together * TILE * p.m;
  const int shift = 32 - __clz(p.m - 1); // as if M were a power of two: no division
#pragma unroll 1
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

// Asks for a box as the copy engine would lay it out, rows past W's end as zeros: 16 bytes a lane, eight lanes a row.
__device__ __forceinline__ void copy_box(const Problem& p, const u8* weight, u8* box, int tile, int span) {
  const int lane = threadIdx.x % 32, piece = lane % 8, r = lane / 8, row = first_row(p, tile) + r;
  const bool gated = p.has(GATED);
  const u32 rowBytes = u32(p.k) / 2;
  const u8* from = weight + i64(row) * rowBytes + (span * (SPAN / 2) + piece * 16);
  const i64 half = i64(gated ? p.n : TILE / 2) * rowBytes; // from the tile's upper rows to its lower ones
  const u32 to = to_shared(box) + r * (SPAN / 2);
#pragma unroll
  for (int h = 0; h < 2; h++) {
#pragma unroll
    for (int q = 0; q < 8; q += 4) {
      const bool inside = row + (gated ? 0 : 8 * h) + q < p.n;
      copy_async(to + (8 * h + q) * (SPAN / 2) + ((piece ^ r ^ q) << 4), from + h * half + q * i64(rowBytes), inside ? 16 : 0);
    }
  }
}

// Asks for the 16 levels, of which nothing is known but that they are float32.
__device__ __forceinline__ void copy_levels(float* to, const float* code) {
  const int lane = threadIdx.x % 32;
  if (lane >= 16) return;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to_shared(to + lane)), "l"(__cvta_generic_to_global(code + lane))
               : "memory");
}

// resident: tiles whose absmax is in shared memory at once; `together`, or all of a block's.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    KERNEL_NAME(const __grid_constant__ TensorMap codes, const __grid_constant__ TensorMap absmaxMap, QUANT_PARAMETERS, int slices,
                int parts, int together, int resident) {
  QUANT_PROBLEM
  extern __shared__ __align__(1024) u8 shared[];
  // The same in all lanes, which the compiler would not see: addresses of the copy engine are then made once a warp.
  const int warp = __shfl_sync(0xffffffffu, threadIdx.x / 32, 0);
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  int part = 0, slice = warp;
#pragma unroll 1
  for (; slice >= slices; slice -= slices) part++;
  const Table table = {shared};
  u8* rings = shared + Table::BYTES + BARRIER_BYTES;
  u8* boxes = rings + warp * STAGES * BOX_BYTES;
  const u32 barriers = to_shared(shared + Table::BYTES), full = barriers + warp * STAGES * 8; // of the warp's boxes

  allow_next();
  // ---- weights, which no kernel before has written, and then x
  float* levels = reinterpret_cast<float*>(boxes + BOX_BYTES); // where the second box will be
  copy_levels(levels, code);
  commit_copies();
  copy_box(p, weight, boxes, int(blockIdx.x) + int(gridDim.x) * part, slice);
  commit_copies();

  const int warps = blockDim.x / 32;
  const Walk walk = {p.has(GATED) ? tiles_of(p.n, TILE / 2) : tiles_of(p.n, TILE), int(u32(p.k) / SPAN), together, parts, slices,
                     slice, part};
  const Absmax stored = CODE4_ABSMAX;
  const bool bulkScales = stored.shift == 6 && !stored.nestedAbsmax;
  const Scales scales = {rings + warps * STAGES * BOX_BYTES, int(u32(walk.spans + SCALE_SPANS - 1) / SCALE_SPANS)};
  float* nestedTable = reinterpret_cast<float*>(scales.boxes + resident * scales.perTile * SCALE_BYTES);
  float* sums = nestedTable + NESTED_BYTES / 4;
  const u32 scalesFull = barriers + warps * STAGES * 8; // of a tile's absmax

  Cursor ahead = {int(blockIdx.x), part, slice};
  const auto fetch = [&](int slot) {
    if (!ahead.valid(walk)) return;
    if (lane == 0) {
      barrier_expect_bytes(full + 8 * slot, BOX_BYTES);
      load_box(to_shared(boxes + slot * BOX_BYTES), &codes, 0, first_row(p, ahead.tile()), ahead.span * (SPAN / 2), full + 8 * slot);
    }
    ahead.next(walk);
  };
  const auto fetch_scales = [&](int first, int from, int to) { // tiles `from` to `to` after `first`: a warp has every `warps`-th
    if (lane != 0) return;
#pragma unroll 1
    for (int i = warp; i < to; i += warps) {
      const int tile = first + int(gridDim.x) * i;
      if (i >= from && tile < walk.tiles) scales.fetch(p, &absmaxMap, i, tile, scalesFull + 8 * i);
    }
  };
  if (lane == 0) {
    for (int s = 0; s < STAGES; s++) barrier_init(full + 8 * s, 1);
#pragma unroll 1
    for (int i = warp; i < resident; i += warps) barrier_init(scalesFull + 8 * i, 1);
    barrier_init_fence();
  }
  __syncwarp();
  if (threadIdx.x == 32 * (warps - 1)) prefetch_map(&codes);
  if (bulkScales) {
    fetch_scales(blockIdx.x, 0, parts);
  } else {
    if (nestedAbsmax && threadIdx.x < 256) nestedTable[threadIdx.x] = nestedCode[threadIdx.x];
    scales.fill<4>(p, stored, walk, nestedTable, blockIdx.x, resident);
  }
  if (ahead.valid(walk)) ahead.next(walk);
  wait_copies<1>(); // the levels
  __syncwarp();
  table.fill(levels[lane % 16] * levelScale);
  __syncwarp();
  // Little of x, and many tiles to come: the second boxes need not stay behind it.
  const bool early = p.m <= 4 && together > 2;
  if (early) fetch(1);
  wait_for_previous();
  u32 x[NB][CHUNKS][8] = {};
  int held = slice;
  load_x(x, p, held);
  if (!early) fetch(1);
  if (bulkScales) fetch_scales(blockIdx.x, parts, resident);

  const int row = (g & 3) * 2 + (g >> 2); // of the box
  const int offset = row * (SPAN / 2) + (((t >> 1) ^ row) << 4) + (t & 1) * 8;
  const int tileSums = TILE * p.m, sliceSums = slice * together * tileSums, step = int(gridDim.x) * parts;
  const TileSums own(p.m, row, t);
  int slot = 0, before = 0; // before: tiles ahead of the group whose absmax is resident, too
  u32 parity = 0, refilled = 0;
  __syncthreads();
  // The first box has arrived as far as its barrier knows when all lanes' copies have.
  wait_copies<0>();
  __syncwarp();
  if (lane == 0) barrier_arrive(full);

  for (int first = blockIdx.x; first < walk.tiles;) {
    for (int span = slice; span < walk.spans; span += slices) {
      if (span != held) {
        held = span;
        load_x(x, p, span);
      }
      const u8* ofSpan = scales.at(before, span, row);
      int tile = first + int(gridDim.x) * part;
      for (int local = part; local < together && tile < walk.tiles; local += parts, tile += step) {
        float* base = sums + (sliceSums + local * tileSums);
        float total[NB][4] = {};
        if (span != slice) own.load(base, total);
        if (bulkScales) barrier_wait_block(scalesFull + 8 * (before + local), refilled);
        barrier_wait_block(full + 8 * slot, parity);
        const Codes read(boxes + slot * BOX_BYTES, offset);
        const u8* ofTile = ofSpan + local * scales.perTile * SCALE_BYTES;
        const float4 scale[2] = {*reinterpret_cast<const float4*>(ofTile), *reinterpret_cast<const float4*>(ofTile + 8 * 128)};
        if (NB == 1) { // once its codes are read; for more rows of x, registers do not hold them all
          __syncwarp();
          fetch(slot);
        }
        multiply_box(total, table, read, scale, x);
        own.store(base, total);
        if (NB > 1) {
          __syncwarp();
          fetch(slot);
        }
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
    finish_group(p, walk, sums, first, 1.0f / levelScale);
    if (more) __syncthreads();
    first = next;
  }
}
