// What the kernels that multiply with a quantized weight share: their parameters, and the formats.
//
//   D[M, N] = x[M, K] · W[N, K]^T (+ bias + residual, or gated), W in 4-bit codes (../nf4/code4.cuh) or GGML blocks
//   (../ggml/blocks.cuh). Epilogue, flags and the order of tiles are those of ../matmul/matmul.cuh.
#pragma once
#include "../ggml/blocks.cuh"
#include "../matmul/matmul.cuh"
#include "../nf4/code4.cuh"

// `levelScale`: levels are multiplied by it before they are rounded to 16 bits, and absmax divided; see codeScale in
// choose.ts. `weightBytes` is where W ends: nothing behind it is read.
#define QUANT_PARAMETERS                                                                                              \
  void *out, const scalar_t *a, const u8 *weight, CODE4_PARAMETERS, const scalar_t *bias, const void *residual, int m, \
      int n, int k, u32 flags, i64 lda, i64 ldd, i64 ldr, i64 weightBytes, float levelScale
#define QUANT_PROBLEM Problem p = {out, a, nullptr, bias, residual, m, n, k, flags, lda, 0, ldd, ldr, 1.0f, 0.0f};

// Beside Flags of matmul.cuh, of 4-bit codes: level * absmax is rounded to this type before it is multiplied.
enum QuantFlags : u32 { VALUES_F16 = 1 << 16, VALUES_BF16 = 1 << 17 };

// 4-bit codes, which have no scale in their bytes. A quad is four codes that lie together: lane t has 8 bytes of a chunk.
struct code4 {
  static constexpr int VALUES = 256, BYTES = 128, GROUP = 64, BIAS = 0;
  static constexpr bool HAS_MIN = false, WIDE = true;
  static __device__ __forceinline__ int offset(int t, int i) { return 16 * t + 4 * i; }
  static __device__ __forceinline__ u32 quad(const u8* span, int c, int t, int i) {
    const u32 two = *reinterpret_cast<const unsigned short*>(span + 32 * c + 8 * t + 2 * i);
    const u32 apart = (two | two << 8) & 0x00ff00ffu;
    return (apart >> 4 | apart << 8) & 0x0f0f0f0fu;
  }
  static __device__ __forceinline__ Scale scale_of(const u8*, int) { return {1.0f, 0.0f}; }
};

// The same, multiplied in f16 by values that are bf16: level * absmax rounded to it, as bitsandbytes dequantizes them.
struct code4_rounded : code4 {};
#ifdef VARIANT_FORMAT // a kernel of one format
using Format = VARIANT_FORMAT;
constexpr bool ROUNDED = is_same<Format, code4_rounded>;
constexpr bool CODE4 = ROUNDED || is_same<Format, code4>;
constexpr int GROUPS_IN_CHUNK = CHUNK / Format::GROUP; // 1, 2 or 4; quad i of a lane belongs to i * GROUPS_IN_CHUNK / 4
constexpr int GROUPS_IN_SPAN = SPAN / Format::GROUP;
#endif
// Row c of W's matrix behind row r of a tile: gated, a tile's upper half are gates and its lower half the ups of the same
// columns of D.
template <int TILE>
__device__ __forceinline__ i64 weight_row(const Problem& p, int tile, int r) {
  if (!p.has(GATED)) return min(tile * TILE + r, p.n - 1);
  return min(tile * (TILE / 2) + r % (TILE / 2), p.n - 1) + (r >= TILE / 2 ? i64(p.n) : 0);
}
