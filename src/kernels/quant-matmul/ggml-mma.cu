// Few rows times a weight in GGML blocks on the tensor cores: D[M, N] = x[M, K] · W[N, K]^T, M = 1..16, f16 and bf16, sm_80 and
// newer, every type. See ggml-few.cuh for how warps divide the work, ggml-pairs.cuh for how blocks become operands.
//
// Bound by W's bytes, as stored: 33 MB for 14336 x 4096 in Q4_K, 62 MB in Q8_0. Blocks of 18, 34, 110 or 210 bytes begin anywhere:
// a row's span is copied with the aligned pieces of 16 bytes that it touches, from one that begins a sector of memory, and decoding
// starts `skew` bytes into the first. Lane (g, t) copies pieces t, t + 4, ... of rows g and g + 8.
//
// Needs K a multiple of 64, rows of x that start on 16 bytes, W on what `weightAlignment` in formats.ts says. Block: 32 threads a
// warp, at most 512; shared memory: ggmlBlock in ggml-layout.ts, the same arithmetic as here.
#include "ggml-few.cuh"

constexpr bool SKEWED = Format::VALUES == 32 || span_bytes<Format> % 16 != 0; // a span may begin between two pieces
constexpr int PIECES = (span_bytes<Format> + (SKEWED ? 30 : 16) + 15) / 16;
constexpr int ROUNDS = (PIECES + 3) / 4;
// Between rows: what eight rows' lanes read at once, four bytes each (Q4_K and Q5_K: eight), lies in different banks.
constexpr int ROW_PITCH = SKEWED ? (PIECES * 16 + 15) / 32 * 32 + 16 : (PIECES * 16 + 31) / 64 * 64 + 32;
constexpr int STAGE_BYTES = TILE * ROW_PITCH;

__device__ __forceinline__ void copy_piece(shared_address dst, const u8* src) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(dst), "l"(__cvta_generic_to_global(src)) : "memory");
}

struct PieceRing {
  static constexpr int STAGES = STAGE_BYTES <= 3584 ? 3 : 2;
  const Problem& p;
  const Walk& walk;
  const u8 *weight, *end;
  u32 rowBytes;
  u8* slots;
  Cursor ahead;

  __device__ __forceinline__ PieceRing(const Problem& p_, const Walk& walk_, const u8* weight_, i64 weightBytes, u8* slots_)
      : p(p_), walk(walk_), weight(weight_), end(weight_ + weightBytes),
        rowBytes(u32(p_.k) / Format::VALUES * Format::BYTES), slots(slots_), ahead(walk_) {}

  // What is behind a row's end becomes zeros. The last piece of W itself may be short.
  __device__ __forceinline__ void fetch(int slot) {
    if (ahead.valid(walk)) {
      const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
      const u32 first = ahead.span * span_bytes<Format>;
#pragma unroll
      for (int h = 0; h < 2; h++) {
        const u8* begin = weight + weight_row<TILE>(p, ahead.tile(), g + 8 * h) * rowBytes + first;
        const u32 before = u32(reinterpret_cast<u64>(begin)) & 31u;
        const u8* from = begin - before + 16 * t;
        const shared_address to = to_shared(slots + slot * STAGE_BYTES + (g + 8 * h) * ROW_PITCH + 16 * t);
        const int length = int(min(u32(span_bytes<Format>), rowBytes - first) + before) - 16 * t; // from `from` on
        if (Format::VALUES == 256 && (!SKEWED || end - from >= 64 * ROUNDS)) {
#pragma unroll
          for (int i = 0; i < ROUNDS; i++) {
            if (64 * i < length) copy_piece(to + 64 * i, from + 64 * i);
          }
        } else {
          const int inside = int(min(i64(64 * ROUNDS), i64(end - from)));
#pragma unroll
          for (int i = 0; i < ROUNDS; i++) {
            if (64 * i + 16 * t < 16 * PIECES) copy_async(to + 64 * i, from + 64 * i, 64 * i < length ? min(16, inside - 64 * i) : 0);
          }
        }
      }
      ahead.next(walk);
    }
    commit_copies();
  }
  __device__ __forceinline__ void wait(int) {
    wait_copies<STAGES - 1>();
    __syncwarp();
  }
  __device__ __forceinline__ void turn() {}
  __device__ __forceinline__ int row_of(int half) const { return threadIdx.x % 32 / 4 + 8 * half; }
  __device__ __forceinline__ const u8* row(int slot, int half, int tile, int span) const {
    const int r = row_of(half);
    const u32 begin = u32(reinterpret_cast<u64>(weight)) + u32(weight_row<TILE>(p, tile, r)) * rowBytes + span * span_bytes<Format>;
    return slots + slot * STAGE_BYTES + r * ROW_PITCH + (begin & 31u);
  }
};

extern "C" __global__ void __launch_bounds__(512, 1) KERNEL_NAME(QUANT_PARAMETERS, int slices, int parts, int together) {
  QUANT_PROBLEM
  const Walk walk(p, slices, parts, together);
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32;
  u8* rings = shared + (Read::LEVELS ? LEVELS_BYTES : 0);
  u8* xSums = rings + warps * PieceRing::STAGES * STAGE_BYTES;
  float* sums = reinterpret_cast<float*>(xSums + warps * X_SUMS_BYTES);

  // ---- the first item is on its way before the previous kernel has finished writing x
  PieceRing ring(p, walk, weight, weightBytes, rings + warp * PieceRing::STAGES * STAGE_BYTES);
  ring.fetch(0);
  allow_next();
  if constexpr (Read::LEVELS) {
    Read::fill();
    __syncthreads();
  }
  wait_for_previous();
  multiply_all(p, walk, ring, reinterpret_cast<float*>(xSums + warp * X_SUMS_BYTES), sums);
}
