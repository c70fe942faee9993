// Element types that are known only at run time. For kernels that do little but move data: the branch is the same for
// the whole grid and costs a few instructions beside a memory access, and saves a file per pair of types.
#pragma once
#include "types.cuh"

// The codes of src/kernels/dtype-code.ts.
enum DTypeCode { F32, F16, BF16, I32, I64, U8, BOOL };

// A value on its way between types: exact as float32 when it comes from a float, as i64 when it comes from an integer.
struct Number {
  float f;
  i64 i;
  bool is_float;
};

__device__ __forceinline__ Number load_number(const void* p, i64 at, int dtype) {
  switch (dtype) {
    case F32: return {static_cast<const f32*>(p)[at], 0, true};
    case F16: return {to_float(static_cast<const f16*>(p)[at]), 0, true};
    case BF16: return {to_float(static_cast<const bf16*>(p)[at]), 0, true};
    case I32: return {0.0f, static_cast<const i32*>(p)[at], false};
    case I64: return {0.0f, static_cast<const i64*>(p)[at], false};
    case U8: return {0.0f, static_cast<const u8*>(p)[at], false};
    default: return {0.0f, static_cast<const u8*>(p)[at] != 0, false};
  }
}

// Float to integer truncates towards zero and saturates at i64's range; then, as from integer to integer, the low bits
// are kept. To bool: anything but zero is true. Integers become 16-bit floats by way of float32.
__device__ __forceinline__ void store_number(void* p, i64 at, int dtype, Number x) {
  const float f = x.is_float ? x.f : float(x.i);
  const i64 i = x.is_float ? i64(x.f) : x.i;
  switch (dtype) {
    case F32: static_cast<f32*>(p)[at] = f; break;
    case F16: static_cast<f16*>(p)[at] = from_float<f16>(f); break;
    case BF16: static_cast<bf16*>(p)[at] = from_float<bf16>(f); break;
    case I32: static_cast<i32*>(p)[at] = i32(i); break;
    case I64: static_cast<i64*>(p)[at] = i; break;
    case U8: static_cast<u8*>(p)[at] = u8(i); break;
    default: static_cast<u8*>(p)[at] = x.is_float ? x.f != 0.0f : x.i != 0;
  }
}
