// 4-bit codes as bitsandbytes stores them: a value is level[code] * absmax[block], the sixteen levels a table (NF4, FP4).
//
//   byte j of the flattened matrix:   | value 2j : upper 4 bits | value 2j + 1 : lower 4 bits |
//   absmax: one a block of 32 to 4096 values, a power of two, over the flattened matrix; float32, or ("nested") itself in 8
//   bits: absmax[b] = nestedCode[byte[b]] * nestedAbsmax[b / 256] + nestedOffset, each operation rounded to float32.
#pragma once
#include "../common/types.cuh"

// What describes absmax, as kernels take it: CODE4_PARAMETERS in a parameter list, CODE4_ABSMAX to make the struct.
#define CODE4_PARAMETERS \
  const void *absmax, const float *code, const float *nestedAbsmax, const float *nestedCode, float nestedOffset, int blockShift
#define CODE4_ABSMAX \
  Absmax { absmax, nestedAbsmax, nestedCode, nestedOffset, blockShift }

struct Absmax {
  const void* values;
  const float* nestedAbsmax; // null: `values` are float32
  const float* nestedCode;
  float nestedOffset;
  int shift; // log2 of the block size

  // From the 8-bit code of block b, where absmax is nested.
  __device__ __forceinline__ float nested(const float* table, u32 byte, i64 b) const {
    return __fadd_rn(__fmul_rn(table[byte], nestedAbsmax[b >> 8]), nestedOffset);
  }
  __device__ __forceinline__ float at(i64 b) const {
    return nestedAbsmax ? nested(nestedCode, static_cast<const u8*>(values)[b], b) : static_cast<const float*>(values)[b];
  }
};

// ---- quantization --------------------------------------------------------------------------------------------------

// The code of a value in [-1, 1]: how many of the midpoints between neighbouring levels (src/base/four-bit.ts) lie
// below it, a midpoint itself going down. The midpoints as bitsandbytes has them. NaN, from a block of zeros, gives 0.
__device__ constexpr float NF4_MIDPOINTS[15] = {
    -0.8480964004993439f,   -0.6106329262256622f, -0.4599952697753906f, -0.33967943489551544f, -0.23460740596055984f,
    -0.13791173323988914f,  -0.045525018125772476f, 0.03979014977812767f, 0.1202552504837513f,  0.2035212516784668f,
    0.2920137718319893f,    0.3893125355243683f,  0.5016634166240692f,  0.6427869200706482f,   0.8614784181118011f,
};
__device__ __forceinline__ u32 quantize_nf4(float x) {
  u32 code = 0;
#pragma unroll
  for (int i = 0; i < 15; i++) code += x > NF4_MIDPOINTS[i];
  return code;
}

// FP4: the sign in the highest bit, the magnitudes not in the order of their codes.
__device__ constexpr float FP4_MIDPOINTS[7] = {0.00260417f, 0.0859375f, 0.20833333f, 0.29166667f, 0.4166667f, 0.583333f, 0.8333333f};
__device__ __forceinline__ u32 quantize_fp4(float x) {
  constexpr u32 codes = 0x32547610u; // nibble i: the code of the i-th magnitude
  u32 rank = 0;
#pragma unroll
  for (int i = 0; i < 7; i++) rank += fabsf(x) > FP4_MIDPOINTS[i];
  return (codes >> 4 * rank & 7u) | (x < 0.0f ? 8u : 0u);
}
