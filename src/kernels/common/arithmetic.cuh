// The type in which elements of a storage type are computed with: float for the three floats, the type itself for
// integers, which a float32 would not hold exactly.
#pragma once
#include "types.cuh"

template <typename T>
struct Arithmetic {
  using type = float;
  static constexpr bool integer = false;
  static __device__ __forceinline__ float widen(T x) { return to_float(x); }
  static __device__ __forceinline__ T narrow(float x) { return from_float<T>(x); }
};

template <typename T>
struct IntegerArithmetic {
  using type = T;
  static constexpr bool integer = true;
  static __device__ __forceinline__ T widen(T x) { return x; }
  static __device__ __forceinline__ T narrow(T x) { return x; }
};
template <>
struct Arithmetic<i32> : IntegerArithmetic<i32> {};
template <>
struct Arithmetic<i64> : IntegerArithmetic<i64> {};
