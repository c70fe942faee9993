// Element types: storage in f32, f16 or bf16, arithmetic in float32.
//
// A source is compiled once per variant and target with -DVARIANT_DTYPE=<f32|f16|bf16|...>, -DLLCUDA_TARGET=<60...90>
// and -DKERNEL_NAME=<symbol>. The types below are named as the dtypes are, so that `scalar_t` is simply that name:
//
//   extern "C" __global__ void KERNEL_NAME(scalar_t* out, const scalar_t* x, long long n) { ... }
//
// No CUDA header is included: the two 16-bit floats are their bits, and every conversion is one instruction (or, for
// bf16 before sm_80, which has none, integer arithmetic). That keeps a build under a second and the PTX short.
#pragma once

#ifndef LLCUDA_TARGET
#error "LLCUDA_TARGET is not defined: kernels are built by scripts/build-ptx.ts (npm run ptx)"
#endif

typedef float f32;
typedef int i32;
typedef long long i64;
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;
struct f16 {
  unsigned short bits;
};
struct bf16 {
  unsigned short bits;
};

template <typename A, typename B>
struct IsSame {
  static constexpr bool value = false;
};
template <typename A>
struct IsSame<A, A> {
  static constexpr bool value = true;
};
template <typename A, typename B>
inline constexpr bool is_same = IsSame<A, B>::value;

// ---- to float32: exact for the float types -------------------------------------------------------------------------

__device__ __forceinline__ float to_float(f32 x) { return x; }

__device__ __forceinline__ float to_float(f16 x) {
  float r;
  asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(x.bits));
  return r;
}

__device__ __forceinline__ float to_float(bf16 x) { return __uint_as_float(u32(x.bits) << 16); }

__device__ __forceinline__ float to_float(i32 x) { return float(x); }
__device__ __forceinline__ float to_float(i64 x) { return float(x); }
__device__ __forceinline__ float to_float(u8 x) { return float(x); }
__device__ __forceinline__ float to_float(bool x) { return x ? 1.0f : 0.0f; }

// ---- from float32: round to nearest even, NaN stays NaN ------------------------------------------------------------

// from_float<f16>(x); float32 to an integer truncates towards zero, to bool is x != 0.
template <typename T>
__device__ __forceinline__ T from_float(float x) {
  return T(x);
}

template <>
__device__ __forceinline__ bool from_float<bool>(float x) {
  return x != 0.0f;
}

template <>
__device__ __forceinline__ f16 from_float<f16>(float x) {
  f16 r;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r.bits) : "f"(x));
  return r;
}

template <>
__device__ __forceinline__ bf16 from_float<bf16>(float x) {
  bf16 r;
#if LLCUDA_TARGET >= 80
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r.bits) : "f"(x));
#else
  // bf16 is the upper half of a float32. Adding 0x7fff, and one more when the kept half is odd, carries into it exactly
  // when rounding to nearest even goes up. NaN must not carry into infinity; 0x7fff is what the instruction gives.
  u32 bits = __float_as_uint(x);
  u32 rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  r.bits = (unsigned short)(x == x ? rounded : 0x7fffu);
#endif
  return r;
}

// ---- 16-byte vectors -----------------------------------------------------------------------------------------------

// N elements that one load or store moves. `Vec<T>` is 16 bytes: 4 f32, 8 f16 or bf16, 16 u8.
template <typename T, int N = 16 / int(sizeof(T))>
struct alignas(N * sizeof(T)) Vec {
  T v[N];
  static constexpr int size = N;
  __device__ __forceinline__ T& operator[](int i) { return v[i]; }
  __device__ __forceinline__ const T& operator[](int i) const { return v[i]; }
};

// Elements in 16 bytes.
template <typename T>
inline constexpr int vec_size = 16 / int(sizeof(T));

// The address must be aligned to the vector: 16 bytes for Vec<T>.
template <typename T>
__device__ __forceinline__ Vec<T> load_vec(const T* p) {
  uint4 raw = *reinterpret_cast<const uint4*>(p);
  return *reinterpret_cast<Vec<T>*>(&raw);
}

// For data that the kernel reads once and nothing writes meanwhile: the read-only path, no line kept in L1.
template <typename T>
__device__ __forceinline__ Vec<T> load_vec_streaming(const T* p) {
  uint4 raw;
#if LLCUDA_TARGET >= 70
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(raw.x), "=r"(raw.y), "=r"(raw.z), "=r"(raw.w)
               : "l"(__cvta_generic_to_global(p)));
#else
  asm volatile("ld.global.nc.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(raw.x), "=r"(raw.y), "=r"(raw.z), "=r"(raw.w)
               : "l"(__cvta_generic_to_global(p)));
#endif
  return *reinterpret_cast<Vec<T>*>(&raw);
}

template <typename T>
__device__ __forceinline__ void store_vec(T* p, Vec<T> value) {
  *reinterpret_cast<uint4*>(p) = *reinterpret_cast<uint4*>(&value);
}

template <typename T, int N>
__device__ __forceinline__ Vec<float, N> to_floats(Vec<T, N> x) {
  Vec<float, N> r;
#pragma unroll
  for (int i = 0; i < N; i++) r[i] = to_float(x[i]);
  return r;
}

template <typename T, int N>
__device__ __forceinline__ Vec<T, N> from_floats(Vec<float, N> x) {
  Vec<T, N> r;
#pragma unroll
  for (int i = 0; i < N; i++) r[i] = from_float<T>(x[i]);
  return r;
}

// ---- the variant ---------------------------------------------------------------------------------------------------

#ifdef VARIANT_DTYPE
using scalar_t = VARIANT_DTYPE;
using vec_t = Vec<scalar_t>;
// Elements of scalar_t in one 16-byte load.
inline constexpr int VEC = vec_size<scalar_t>;
#endif
