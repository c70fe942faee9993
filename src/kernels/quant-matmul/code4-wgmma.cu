// 17 and more rows times a weight in 4-bit codes with Hopper's own instructions (sm_90a); see wgmma-gemm.cuh for how a block works.
//
// Levels are multiplied: a byte of W is looked up in a table of all pairs of levels (code4-table.cuh). The sums of a chunk, which
// shares its absmax, are multiplied by it and added up in float32.
// Bound by shared memory: of a chunk of 128 rows the look-ups are 128 accesses, the codes 64 or 128, and wgmma reads x in 128 for
// 64 rows of it; the tensor cores take 256 cycles.
// Needs K a multiple of 64, blocks of 64 values or more.
#include "wgmma-gemm.cuh"
#include "code4-table.cuh"

struct Levels {
  static constexpr int WIDTH = SPAN / 2, BOXES = 1, BOX_STEP = 0, SCALES = 1, TABLE_BYTES = ::TABLE_BYTES;
  static constexpr bool SCALED = true;
  static __device__ __forceinline__ int first_byte(int span) { return span * (SPAN / 2); }

  // Absmax of a span: four values of a row, loaded a span ahead.
  struct Source {
    static constexpr bool ROLLED = false; // what has been loaded is in registers
    static constexpr int COUNT = SPAN / CHUNK;
    Absmax scales;
    float value[SCALE_ROWS][COUNT], block[SCALE_ROWS][COUNT]; // float32; or an 8-bit code, and the absmax of its block

    // Past the end of K: the row's last block.
    __device__ __forceinline__ void load(const Problem& p, const i64 (&rows)[SCALE_ROWS], int span) {
#pragma unroll
      for (int r = 0; r < SCALE_ROWS; r++) {
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
          const i64 b = (rows[r] * p.k + min(SPAN * span + CHUNK * i, p.k - CHUNK)) >> scales.shift;
          if (scales.nestedAbsmax) {
            value[r][i] = __uint_as_float(static_cast<const u8*>(scales.values)[b]);
            block[r][i] = scales.nestedAbsmax[b >> 8];
          } else {
            value[r][i] = static_cast<const float*>(scales.values)[b];
          }
        }
      }
    }
    __device__ __forceinline__ void store(float* to, const u8*, int r, int) const {
#pragma unroll
      for (int i = 0; i < COUNT; i++) {
        const float v = value[r][i];
        to[BN * i] = scales.nestedAbsmax
                         ? __fadd_rn(__fmul_rn(scales.nestedCode[__float_as_uint(v)], block[r][i]), scales.nestedOffset)
                         : v;
      }
    }
  };

  u8* shared;
  float level; // of the code, one a lane: loaded before anybody waits

  __device__ __forceinline__ void fill() const { fill_pairs<CONSUMERS>(shared, from_float<scalar_t>(level).bits); }

  // A chunk of a row is 32 bytes, which four lanes read together. Of every word lane t takes byte t: values 2t and 2t + 1 of eight.
  // The copy engine's swizzle: 16-byte unit u of row r lies at u ^ (r % 8).
  __device__ __forceinline__ void decode(Operand& a, const u8* row, const float*, int, int c) const {
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const u8* own = shared + 4 * lane; // this lane's copy of the first pair
#pragma unroll
    for (int half = 0; half < 2; half++) {
#pragma unroll
      for (int unit = 0; unit < 2; unit++) {
        const uint4 codes = *reinterpret_cast<const uint4*>(row + 8 * half * WIDTH + 16 * ((2 * c | unit) ^ g));
        const u32 words[4] = {codes.x, codes.y, codes.z, codes.w};
#pragma unroll
        for (int j = 0; j < 4; j++) {
          const u32 byte = __byte_perm(words[j], 0, 0x4440 | t); // and a multiply-add, which another pipe does
          a[2 * unit + j / 2][j % 2 * 2 + half] = *reinterpret_cast<const u32*>(own + byte * 128);
        }
      }
    }
  }
};

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    KERNEL_NAME(const __grid_constant__ hopper::TensorMap xMap, const __grid_constant__ hopper::TensorMap wMap, QUANT_PARAMETERS,
                float* parts, int xStages, int wStages) {
  QUANT_PROBLEM
  p.alpha = 1.0f / levelScale;
  extern __shared__ __align__(1024) u8 shared[];
  Levels levels = {shared, code[threadIdx.x & 15] * levelScale};
  WideBlock<Levels>(p, parts, xStages, wStages, shared).run(xMap, wMap, levels, {CODE4_ABSMAX});
}
