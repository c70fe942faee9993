// 17 and more rows times a weight in GGML blocks with Hopper's own instructions (sm_90a), for the types that most files are made of;
// see wgmma-gemm.cuh for how a block works.
//
// A chunk's values are decoded to 16 bits, rounded once from float32 as when the weight is dequantized (affine.cuh). Scales and mins,
// as float32, are made once a row by warps that do nothing else.
// Bound by decoding: a value takes about three operations, once for all rows of x.
// Needs rows of W a multiple of 16 bytes that start on 16. A box begins at a multiple of 16 bytes of W's row.
#include "wgmma-gemm.cuh"
#include "affine.cuh"
#include "ggml-quads.cuh"

struct Values {
  using F = Format;
  static constexpr int SPAN_BYTES = span_bytes<F>, PARTS = F::HAS_MIN ? 2 : 1;
  static constexpr bool SKEWED = SPAN_BYTES % 16 != 0;
  // Eight rows of a box lie in different banks.
  static constexpr int BOXES = is_same<F, q8_0> ? 2 : 1;
  static constexpr int WIDTH = is_same<F, q6_k> ? 240 : is_same<F, q5_k> ? 176 : 144, BOX_STEP = 128;
  static constexpr int GROUPS = CHUNK / F::GROUP, SCALES = GROUPS * PARTS, TABLE_BYTES = 0;
  static constexpr bool SCALED = false;
  static __device__ __forceinline__ int first_byte(int span) { return span * SPAN_BYTES & ~15; }
  static __device__ __forceinline__ int skew(int span) { return SKEWED ? span * SPAN_BYTES & 15 : 0; }

  // Where the pieces of a row's span are: of two boxes, the second begins 128 bytes further.
  static __device__ __forceinline__ const u8* chunk_of(const u8* row, int c) {
    return row + (BOXES == 2 && c >= 2 ? BN * WIDTH - 128 : 0);
  }

  // Scales of a span: [chunk][row][group][scale, min].
  struct Source {
    static constexpr bool ROLLED = true;
    __device__ __forceinline__ void load(const Problem&, const i64 (&)[SCALE_ROWS], int) const {}
    __device__ __forceinline__ void store(float* to, const u8* row, int, int span) const {
#pragma unroll
      for (int c = 0; c < SPAN / CHUNK; c++) {
#pragma unroll
        for (int i = 0; i < GROUPS; i++) {
          const Scale s = F::scale_of(chunk_of(row, c) + skew(span), GROUPS * c + i);
          to[BN * SCALES * c + i * PARTS] = s.scale;
          if constexpr (F::HAS_MIN) to[BN * SCALES * c + i * PARTS + 1] = s.min;
        }
      }
    }
  };

  __device__ __forceinline__ void decode(Operand& a, const u8* row, const float* scales, int span, int c) const {
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const u8* from = chunk_of(row, c) + 8 * half * WIDTH + skew(span);
      const float* of = scales + 8 * half * SCALES;
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float* s = of + i * GROUPS / 4 * PARTS;
        const uint2 pairs = Affine<F>({s[0], F::HAS_MIN ? s[1] : 0.0f}).round(quad_of<F>(from, c, t, i));
        a[i][half] = pairs.x;
        a[i][2 + half] = pairs.y;
      }
    }
  }
};

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    KERNEL_NAME(const __grid_constant__ hopper::TensorMap xMap, const __grid_constant__ hopper::TensorMap wMap, QUANT_PARAMETERS,
                float* parts, int xStages, int wStages) {
  QUANT_PROBLEM
  extern __shared__ __align__(1024) u8 shared[];
  Values values;
  WideBlock<Values>(p, parts, xStages, wStages, shared).run(xMap, wMap, values, {});
}
