// The grouped product for few rows an expert with quantized weights, on the tensor cores: 4-bit codes and GGML blocks, f16 and
// bf16, sm_80 and newer. What decoding with quantized experts runs on.
//
// How warps divide a weight, and how sums are scaled, is quant-mma.cuh's; a tile is 16 rows of one group's weight. Its tasks are
// those of all groups: at one token of Qwen3-30B-A3B 768 tiles for the first product, 1024 for the second, of 8 and 3 spans.
//
// Bound by the bytes of the chosen experts' weights, each read once for up to 8 of its rows: 14 MB and 7 MB there in codes
// with float32 absmax, 4.6 and 2.3 us at 3.1 TB/s. That is two or three spans a warp, so what counts is the latency before the
// first and after the last one: a warp asks for all the spans that its ring holds at once, four of them in codes. The rings
// go on from one group's tile into the next. Which weights these are, only the routing knows: the first product cannot fetch
// any before that has ended, the second one can (EARLY_TABLE). The table of levels is made meanwhile.
//
// Lane (g, t) copies pieces t, t + 4, ... of rows g and g + 8, and the scales of chunk t in both; others ask it for them.
// x is in shared memory if all its rows fit, which few tokens' do, and is else read through L1.
// A row's bits depend neither on its group nor on how many rows there are.
// Needs K a multiple of 64 (256 with codes) and rows of x that start on 16 bytes; of codes, float32 absmax for 64 values or more.
// Block: 32 threads a warp, at most 512. Shared memory: groupedQuantLayout in grouped-quant-layout.ts, the same arithmetic as here.
#include "grouped.cuh"
#include "../quant-matmul/quant-mma.cuh"
#include "../quant-matmul/code4-decode.cuh"

constexpr int CHUNKS = SPAN / CHUNK;
// Whether a span of a row may begin between two pieces of 16 bytes.
constexpr bool SKEWED = !CODE4 && (Format::VALUES == 32 || span_bytes<Format> % 16 != 0);
constexpr int PIECES = (span_bytes<Format> + 15) / 16 + SKEWED;
constexpr int ROUNDS = (PIECES + 3) / 4;
// Between rows: the 32 bytes that four lanes read at once in four rows lie in different banks. Codes are swizzled instead.
constexpr int ROW_PITCH = CODE4 ? 128 : (PIECES * 16 + 31) / 64 * 64 + 32;
constexpr int ABSMAX_BYTES = CODE4 ? 2 * 32 * 4 : 0; // [row half][lane]
constexpr int STAGE_BYTES = TILE * ROW_PITCH + ABSMAX_BYTES;
constexpr int STAGES = STAGE_BYTES <= 2560 ? 4 : STAGE_BYTES <= 3584 ? 3 : 2;
using Table = PairTable<128>;
constexpr int TABLE_BYTES = CODE4 ? Table::BYTES : 0;

__device__ __forceinline__ int place(int row, int piece) { return row * ROW_PITCH + (CODE4 ? piece ^ row % 4 * 2 : piece) * 16; }

__device__ __forceinline__ void copy_async_4(shared_address dst, const void* src) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(dst), "l"(__cvta_generic_to_global(src)) : "memory");
}

// The experts' weights, and the groups of rows that are multiplied with them.
struct Experts {
  Problem p; // of no rows
  const u8 *weight, *end;
  const i32 *order, *table;
  int share;
  Absmax absmax;
  u32 rowBytes;
  int columnTiles; // of a group

  __device__ __forceinline__ int column(int tile) const { return tile % columnTiles; }
};

// What a lane remembers of a tile.
struct Tile {
  const u8* row[2]; // of the weight: rows g and g + 8
  int rows, slot;   // of the group; of its row g, which this lane feeds to the multiplication

  __device__ __forceinline__ void select(const Experts& of, int tile) {
    const int g = threadIdx.x % 32 / 4;
    const Group group = load_group(of.table, tile / of.columnTiles);
    const i64 first = i64(group.expert) * (of.p.has(GATED) ? 2 : 1) * of.p.n;
#pragma unroll
    for (int h = 0; h < 2; h++) row[h] = of.weight + (first + weight_row<TILE>(of.p, of.column(tile), g + 8 * h)) * of.rowBytes;
    rows = group.rows;
    slot = of.order[group.first + min(g, rows - 1)];
  }
  __device__ __forceinline__ u32 skew(int h, int span) const {
    return SKEWED ? (u32(reinterpret_cast<u64>(row[h])) + span * span_bytes<Format>) & 15u : 0u;
  }
  __device__ __forceinline__ void copy(const Experts& of, shared_address stage, int span) const {
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const u32 first = span * span_bytes<Format>;
#pragma unroll
    for (int h = 0; h < 2; h++) {
      const u32 before = skew(h, span);
      const u32 length = (Format::VALUES == 32 ? min(u32(span_bytes<Format>), of.rowBytes - first) : span_bytes<Format>) + before;
      const u8* from = row[h] + first - before;
#pragma unroll
      for (int i = 0; i < ROUNDS; i++) {
        const int piece = 4 * i + t;
        if (16 * piece >= length) continue;
        // The last piece of all may be short.
        const int bytes = SKEWED ? int(min(i64(of.end - from) - 16 * piece, i64(16))) : 16;
        copy_async(stage + place(g + 8 * h, piece), from + 16 * piece, bytes);
      }
      if constexpr (CODE4) {
        const i64 element = (row[h] - of.weight) * 2 + SPAN * span + CHUNK * t;
        copy_async_4(stage + TILE * ROW_PITCH + (32 * h + lane) * 4,
                     static_cast<const float*>(of.absmax.values) + (element >> of.absmax.shift));
      }
    }
  }
};

// The scales of this lane's chunk in its two rows, as [row half][group][component].
using ChunkScale = float[2][GROUPS_IN_CHUNK * COMPONENTS];

__device__ __forceinline__ void read_scales(ChunkScale& own, const u8* stage, const u8* const (&span)[2]) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int h = 0; h < 2; h++) {
    if constexpr (CODE4) {
      own[h][0] = *reinterpret_cast<const float*>(stage + TILE * ROW_PITCH + (32 * h + lane) * 4);
    } else {
#pragma unroll
      for (int i = 0; i < GROUPS_IN_CHUNK; i++) {
        const Scale s = Format::scale_of(span[h], lane % 4 * GROUPS_IN_CHUNK + i);
        own[h][i * COMPONENTS] = s.scale;
        if constexpr (Format::HAS_MIN) own[h][i * COMPONENTS + 1] = s.min;
      }
    }
  }
}

// The pairs of one row in chunk c.
__device__ __forceinline__ void decode(u32 (&pairs)[8], const Table& table, const u8* span, int row, int c) {
  const int t = threadIdx.x % 4;
  if constexpr (CODE4) {
    table.decode(pairs, *reinterpret_cast<const uint2*>(span + place(row, 2 * c + t / 2) - row * ROW_PITCH + t % 2 * 8), 1.0f);
  } else {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const Pairs q = pairs_of<Format::BIAS>(Format::quad(span, c, t, i));
      pairs[2 * i] = q.low;
      pairs[2 * i + 1] = q.high;
    }
  }
}

// The row of x that this lane feeds to the multiplication, at its k of a chunk; zeros where the group has fewer rows.
struct XRow {
  const scalar_t* row;

  __device__ __forceinline__ XRow(const Experts& of, const Tile& tile, const scalar_t* x, i64 stride) {
    const bool exists = threadIdx.x % 32 / 4 < tile.rows;
    row = exists ? x + tile.slot / of.share * stride + Format::offset(threadIdx.x % 4, 0) : nullptr;
  }
  // Quads i and i + 1 of a lane lie together where the format is WIDE.
  __device__ __forceinline__ void load(u32 (&x)[NB][8], int k) const {
    constexpr int EACH = Format::WIDE ? 4 : 2; // words
#pragma unroll
    for (int i = 0; i < 8; i += EACH) {
      Vec<u32, EACH> v = {};
      if (row) v = *reinterpret_cast<const Vec<u32, EACH>*>(row + k + Format::offset(0, i / 2));
#pragma unroll
      for (int j = 0; j < EACH; j++) x[0][i + j] = v[j];
    }
  }
};

// All rows of x to shared memory, `stride` elements apart, by the whole block.
__device__ __forceinline__ void stage_rows(const Problem& p, scalar_t* to, int stride) {
  const int pieces = p.k / 8;
  for (int at = threadIdx.x; at < p.m * pieces; at += blockDim.x) {
    const int row = at / pieces, piece = at % pieces;
    copy_async(to_shared(to + row * stride + 8 * piece), p.a + row * p.lda + 8 * piece, 16);
  }
  commit_copies();
}

extern "C" __global__ void __launch_bounds__(512, 1)
    KERNEL_NAME(QUANT_PARAMETERS, const i32* order, const i32* table, int share, int slices, int xStride) {
  QUANT_PROBLEM
  extern __shared__ __align__(128) u8 shared[];
  const Share tasks(slices);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32, g = lane / 4;
  const u32 rowBytes = u32(p.k) / Format::VALUES * Format::BYTES;
  const int columnTiles = tiles_of(p.n, columns_of_tile(p));
  const Experts of = {p, weight, weight + weightBytes, order, table, share, CODE4_ABSMAX, rowBytes, columnTiles};
  const int spans = tiles_of(p.k, SPAN);
  // levels | rings | sums | slots of the rows of a warp's tile | x, where it fits
  const Table levels = {shared};
  u8* ring = shared + TABLE_BYTES + warp * STAGES * STAGE_BYTES;
  float* sums = reinterpret_cast<float*>(shared + TABLE_BYTES + warps * STAGES * STAGE_BYTES);
  i32* slots = reinterpret_cast<i32*>(sums) + warps * (SUMS_BYTES / 4) + 8 * warp;
  p.order = slots;
  scalar_t* xShared = reinterpret_cast<scalar_t*>(reinterpret_cast<i32*>(sums) + warps * (SUMS_BYTES / 4 + 8));
  const scalar_t* x = xStride ? xShared : p.a;
  const i64 stride = xStride ? xStride : p.lda;

  const bool early = p.has(EARLY_TABLE);
  const float level = CODE4 ? code[threadIdx.x % 16] * levelScale : 0.0f;
  if (!early) {
    if constexpr (CODE4) levels.fill(level);
    wait_for_previous();
    allow_next(); // not before: the next one may be a product that looks at the table at once
    // Before the weights, behind which it would wait.
    if (xStride) stage_rows(p, xShared, xStride);
  }
  const int tiles = group_count(table) * columnTiles;
  Cursor now = {tasks.first_tile(), tasks.slice}, ahead = now;
  Tile aheadTile = {};
  if (now.tile < tiles) aheadTile.select(of, now.tile);
  Tile tile = aheadTile;
  const auto copy_next = [&](int stage) {
    if (ahead.tile < tiles) {
      aheadTile.copy(of, to_shared(ring + stage * STAGE_BYTES), ahead.span);
      if (ahead.next(tasks, spans) && ahead.tile < tiles) aheadTile.select(of, ahead.tile);
    }
    commit_copies();
  };
#pragma unroll
  for (int s = 0; s < STAGES; s++) copy_next(s);
  if (early) {
    if constexpr (CODE4) levels.fill(level);
    allow_next();
    wait_for_previous();
    if (xStride) stage_rows(p, xShared, xStride);
    wait_copies<0>();
  } else {
    wait_copies<STAGES>();
  }
  __syncthreads();

  float total[NB][4] = {};
  int stage = 0, buffer = 0;
  while (now.tile < tiles) {
    const XRow rowOfX(of, tile, x, stride);
    do {
      const u8* item = ring + stage * STAGE_BYTES;
      wait_copies<STAGES - 1>();
      __syncwarp();
      const u8* const span[2] = {item + g * ROW_PITCH + tile.skew(0, now.span), item + (g + 8) * ROW_PITCH + tile.skew(1, now.span)};
      ChunkScale own = {};
      if (Format::VALUES == 256 || SPAN * now.span + CHUNK * (lane % 4) < p.k) read_scales(own, item, span);
#pragma unroll
      for (int c = 0; c < CHUNKS; c++) {
        const int first = SPAN * now.span + CHUNK * c;
        if (Format::VALUES == 32 && first >= p.k) break;
        u32 pairs[NB][8], low[8], high[8];
        rowOfX.load(pairs, first);
        decode(low, levels, span[0], g, c);
        decode(high, levels, span[1], g + 8, c);
        ChunkScale scale;
#pragma unroll
        for (int h = 0; h < 2; h++) {
#pragma unroll
          for (int i = 0; i < GROUPS_IN_CHUNK * COMPONENTS; i++) scale[h][i] = __shfl_sync(0xffffffffu, own[h][i], lane & ~3 | c);
        }
        multiply_chunk(total, low, high, pairs, scale);
      }
      __syncwarp();
      copy_next(stage);
      stage = stage + 1 == STAGES ? 0 : stage + 1;
      now.span += slices;
    } while (now.span < spans);
    p.m = tile.rows;
    if (lane % 4 == 0) slots[g] = tile.slot;
    finish_tile(p, tasks, sums, buffer, of.column(now.tile), total, 1.0f / levelScale); // past its barrier it reads slots
    buffer ^= 1;
#pragma unroll
    for (int b = 0; b < NB; b++) {
#pragma unroll
      for (int i = 0; i < 4; i++) total[b][i] = 0.0f;
    }
    now = {now.tile + tasks.tile_step(), tasks.slice};
    if (now.tile < tiles) tile.select(of, now.tile);
  }
}
