// Few rows times a weight in GGML blocks on the tensor cores: D[M, N] = x[M, K] · W[N, K]^T, M = 1..16, f16 and bf16, sm_80 and
// newer. See quant-mma.cuh for how warps divide the work, ../ggml/blocks.cuh for the types.
//
// Bound by W's bytes, as stored: 33 MB for 14336 x 4096 in Q4_K, 62 MB in Q8_0. Blocks of 18, 34, 110 or 210 bytes begin
// anywhere, and a lane's values lie in twos and fours: so a span goes through shared memory. Every warp has a ring of STAGES
// spans of 16 rows of its own there, filled by cp.async in aligned pieces of 16 bytes: a row's pieces are those that its span
// touches, and decoding starts `skew` bytes into the first.
// Every warp first unpacks a span's scales, each lane its share, into a table that all its lanes then read.
// Decoding a value takes 1.4 to 3 operations: a mask and a shift for four, a permutation and a subtraction for two.
// Needs K a multiple of 64 and rows of x that start on 16 bytes. Block: 32 threads a warp, at most 512; shared memory:
// mmaLayout in layout.ts, the same arithmetic as here.
#include "quant-mma.cuh"

constexpr int PIECES = (span_bytes<Format> + 15) / 16 + 1; // of 16 bytes, that a row's span may touch
// Between rows in the ring: the 32 bytes that four lanes read at once in four rows lie in different banks.
constexpr int ROW_PITCH = (PIECES * 16 + 31) / 64 * 64 + 32;
constexpr int STAGE_BYTES = TILE * ROW_PITCH;
constexpr int STAGES = STAGE_BYTES <= 3584 ? 3 : 2;
constexpr int SCALES_BYTES = TILE * GROUPS_IN_SPAN * COMPONENTS * 4;
constexpr int PER_CHUNK = GROUPS_IN_CHUNK * COMPONENTS;

// A tile's rows in W: eight from `low` on and eight from `high` on, `rowBytes` apart.
struct Rows {
  const u8 *low, *high;
  int lowRows, highRows; // that exist

  __device__ __forceinline__ Rows(const Problem& p, const u8* weight, i64 rowBytes, int tile) {
    const int first = tile * columns_of_tile(p);
    low = weight + first * rowBytes;
    high = p.has(GATED) ? weight + (i64(p.n) + first) * rowBytes : low + 8 * rowBytes;
    lowRows = min(8, p.n - first);
    highRows = p.has(GATED) ? lowRows : min(8, max(0, p.n - first - 8));
  }
};

// Starts the copies of a span, a piece a lane and round. The last piece of W itself may be short.
__device__ __forceinline__ void copy_span(const Rows& rows, const u8* end, u32 rowBytes, shared_address stage, u32 first) {
  const int lane = threadIdx.x % 32;
  const u32 length = min(u32(span_bytes<Format>), rowBytes - first);
#pragma unroll
  for (int i = 0; i < (TILE * PIECES + 31) / 32; i++) {
    const int n = 32 * i + lane, row = n / PIECES, piece = n % PIECES;
    if (TILE * PIECES % 32 != 0 && row >= TILE) continue;
    const u8* begin = (row < 8 ? rows.low : rows.high) + (row % 8 * rowBytes + first);
    const u32 skew = u32(reinterpret_cast<u64>(begin)) & 15u;
    if (16 * piece >= length + skew) continue;
    const u8* from = begin - skew + 16 * piece;
    const bool exists = row % 8 < (row < 8 ? rows.lowRows : rows.highRows); // a row that does not exist is zeros
    copy_async(stage + row * ROW_PITCH + piece * 16, from, !exists ? 0 : end - from < 16 ? int(end - from) : 16);
  }
}

// Bytes from the first piece of a tile's row to its span.
__device__ __forceinline__ int skew_of(const Rows& rows, u32 rowBytes, u32 first, int row) {
  return int((u32(reinterpret_cast<u64>(row < 8 ? rows.low : rows.high)) + row % 8 * rowBytes + first) & 15u);
}

extern "C" __global__ void __launch_bounds__(512, 1) KERNEL_NAME(QUANT_PARAMETERS, int slices, int xBytes) {
  QUANT_PROBLEM
  extern __shared__ __align__(128) u8 shared[];
  const Share share(slices);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
  const int g = lane / 4, t = lane % 4;
  const int tiles = tiles_of(p.n, columns_of_tile(p)), spans = tiles_of(p.k, SPAN);
  const u32 rowBytes = u32(p.k) / Format::VALUES * Format::BYTES;
  u8* ring = shared + warp * (STAGES * STAGE_BYTES + SCALES_BYTES);
  float* scales = reinterpret_cast<float*>(ring + STAGES * STAGE_BYTES);
  float* sums = reinterpret_cast<float*>(shared + warps * (STAGES * STAGE_BYTES + SCALES_BYTES));
  u8* xShared = reinterpret_cast<u8*>(sums) + warps * SUMS_BYTES;

  // ---- the first spans are on their way before the previous kernel has finished writing x
  Cursor now = {share.first_tile(), share.slice}, ahead = now;
  Rows aheadRows(p, weight, rowBytes, now.tile);
  const auto copy_next = [&](int stage) {
    if (ahead.tile < tiles) {
      copy_span(aheadRows, weight + weightBytes, rowBytes, to_shared(ring + stage * STAGE_BYTES), ahead.span * span_bytes<Format>);
    }
    commit_copies();
    if (ahead.next(share, spans)) aheadRows = Rows(p, weight, rowBytes, ahead.tile);
  };
#pragma unroll
  for (int s = 0; s < STAGES; s++) copy_next(s);
  allow_next();
  wait_for_previous();
  stage_x(p, xShared, xBytes);
  __syncthreads();

  const XRows xRows(p, xShared, xBytes);
  float total[NB][4] = {};
  int stage = 0, buffer = 0;
  while (now.tile < tiles) {
    const u8* item = ring + stage * STAGE_BYTES;
    const Rows rows(p, weight, rowBytes, now.tile);
    const u32 first = now.span * span_bytes<Format>;
    wait_copies<STAGES - 1>();
    __syncwarp();
#pragma unroll
    for (int at = lane; at < TILE * GROUPS_IN_SPAN; at += 32) {
      const int row = at / GROUPS_IN_SPAN, group = at % GROUPS_IN_SPAN;
      if (SPAN * now.span + Format::GROUP * group >= p.k) continue;
      const Scale s = Format::scale_of(item + row * ROW_PITCH + skew_of(rows, rowBytes, first, row), group);
      scales[at * COMPONENTS] = s.scale;
      if constexpr (Format::HAS_MIN) scales[at * COMPONENTS + 1] = s.min;
    }
    __syncwarp();
    const u8* lowRow = item + g * ROW_PITCH + skew_of(rows, rowBytes, first, g);
    const u8* highRow = item + (g + 8) * ROW_PITCH + skew_of(rows, rowBytes, first, g + 8);
#pragma unroll 1
    for (int c = 0; c < SPAN / CHUNK; c++) {
      const int k = SPAN * now.span + CHUNK * c;
      if (k >= p.k) break;
      u32 x[NB][8], low[8], high[8];
      xRows.load(x, k);
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const Pairs a = pairs_of<Format::BIAS>(Format::quad(lowRow, c, t, i));
        const Pairs b = pairs_of<Format::BIAS>(Format::quad(highRow, c, t, i));
        low[2 * i] = a.low;
        low[2 * i + 1] = a.high;
        high[2 * i] = b.low;
        high[2 * i + 1] = b.high;
      }
      float scale[2][PER_CHUNK];
#pragma unroll
      for (int h = 0; h < 2; h++) {
        const float* from = scales + ((g + 8 * h) * GROUPS_IN_SPAN + c * GROUPS_IN_CHUNK) * COMPONENTS;
#pragma unroll
        for (int i = 0; i < PER_CHUNK; i++) scale[h][i] = from[i];
      }
      multiply_chunk(total, low, high, x, scale);
    }
    __syncwarp();
    copy_next(stage);
    stage = stage + 1 == STAGES ? 0 : stage + 1;
    const int tile = now.tile;
    if (!now.next(share, spans)) continue;
    finish_tile(p, share, sums, buffer, tile, total, 1.0f);
    buffer ^= 1;
#pragma unroll
    for (int b = 0; b < NB; b++) {
#pragma unroll
      for (int i = 0; i < 4; i++) total[b][i] = 0.0f;
    }
  }
}
