// Views of up to eight dimensions: sizes and strides by value, and the way from a flat index to an element.
#pragma once
#include "types.cuh"

// Entries past the rank are not read.
struct Dims {
  i64 v[8];
};

// Where a flat row-major index over `shape` lies in two views of that shape, in elements.
struct Offsets {
  i64 a, b;
};

// The loop is unrolled with constant indices, so that Dims stays in the parameter bank. One division per dimension but
// the outermost; with 32-bit indices it is some 20 instructions, with 64-bit ones over 70.
template <typename Index>
__device__ __forceinline__ Offsets split(Index index, int rank, const Dims& shape, const Dims& a, const Dims& b) {
  Offsets at = {0, 0};
#pragma unroll
  for (int d = 7; d > 0; d--) {
    if (d < rank) {
      const Index size = Index(shape.v[d]);
      const Index rest = index / size;
      const i64 i = i64(index - rest * size);
      at.a += i * a.v[d];
      at.b += i * b.v[d];
      index = rest;
    }
  }
  at.a += i64(index) * a.v[0];
  at.b += i64(index) * b.v[0];
  return at;
}

// `count` is the number of elements of the view: it decides which width is enough.
__device__ __forceinline__ Offsets offsets_of(i64 index, i64 count, int rank, const Dims& shape, const Dims& a, const Dims& b) {
  return count <= 0xffffffffLL ? split<u32>(u32(index), rank, shape, a, b) : split<u64>(u64(index), rank, shape, a, b);
}
