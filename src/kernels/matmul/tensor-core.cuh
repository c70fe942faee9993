// The instructions of the tensor-core kernels, one function each. Fragment layouts are in terms of g = lane / 4 and
// t = lane % 4; a 32-bit register holds two 16-bit values, the lower k (or row) in the lower half.
#pragma once
#include "../common/types.cuh"

// An address in shared memory, as ldmatrix and cp.async take it.
typedef u32 shared_address;
__device__ __forceinline__ shared_address to_shared(const void* p) { return shared_address(__cvta_generic_to_shared(p)); }

#if LLCUDA_TARGET >= 80
// c[16 x 8] += a[16 x 16] · b[16 x 8].
//   a: {row g, k 2t}  {row g+8, k 2t}  {row g, k 2t+8}  {row g+8, k 2t+8}   (each with its right neighbour)
//   b: {k 2t, column g}  {k 2t+8, column g}
//   c: (row g, columns 2t, 2t+1)  (row g+8, columns 2t, 2t+1)
__device__ __forceinline__ void mma_16x8x16(float (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
  if constexpr (is_same<scalar_t, bf16>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  }
}

// Four 8 x 8 matrices of 16-bit values; lane 8i + j gives the address of row j of matrix i. Afterwards r[i] holds row g,
// columns 2t and 2t + 1, of matrix i; transposed: rows 2t and 2t + 1, column g.
__device__ __forceinline__ void load_matrices(u32 (&r)[4], shared_address row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
}
__device__ __forceinline__ void load_matrices_transposed(u32 (&r)[4], shared_address row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
}

// Copies 16 bytes from global to shared memory past the registers and L1; bytes from `valid` on become zero.
__device__ __forceinline__ void copy_async(shared_address dst, const void* src, int valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dst), "l"(__cvta_generic_to_global(src)), "r"(valid)
               : "memory");
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until all but the newest `pending` groups of this thread have arrived.
template <int pending>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}
#endif

#if LLCUDA_TARGET >= 70
// The warp-wide 16 x 16 x 16 product of sm_70, whose fragments are opaque: which lane holds what is the hardware's secret.
// `ld` in elements; rows in shared memory start on 32 bytes.
struct FragmentAB {
  u32 r[8];
};
struct FragmentC {
  float r[8];
};
// A stored [M, K].
__device__ __forceinline__ void wmma_load_a(FragmentAB& f, const f16* p, int ld) {
  asm volatile("wmma.load.a.sync.aligned.row.m16n16k16.shared.f16 {%0,%1,%2,%3,%4,%5,%6,%7}, [%8], %9;"
               : "=r"(f.r[0]), "=r"(f.r[1]), "=r"(f.r[2]), "=r"(f.r[3]), "=r"(f.r[4]), "=r"(f.r[5]), "=r"(f.r[6]), "=r"(f.r[7])
               : "r"(to_shared(p)), "r"(ld)
               : "memory");
}
// rowMajor: stored [K, N]; otherwise [N, K].
template <bool rowMajor>
__device__ __forceinline__ void wmma_load_b(FragmentAB& f, const f16* p, int ld) {
  if constexpr (rowMajor) {
    asm volatile("wmma.load.b.sync.aligned.row.m16n16k16.shared.f16 {%0,%1,%2,%3,%4,%5,%6,%7}, [%8], %9;"
                 : "=r"(f.r[0]), "=r"(f.r[1]), "=r"(f.r[2]), "=r"(f.r[3]), "=r"(f.r[4]), "=r"(f.r[5]), "=r"(f.r[6]), "=r"(f.r[7])
                 : "r"(to_shared(p)), "r"(ld)
                 : "memory");
  } else {
    asm volatile("wmma.load.b.sync.aligned.col.m16n16k16.shared.f16 {%0,%1,%2,%3,%4,%5,%6,%7}, [%8], %9;"
                 : "=r"(f.r[0]), "=r"(f.r[1]), "=r"(f.r[2]), "=r"(f.r[3]), "=r"(f.r[4]), "=r"(f.r[5]), "=r"(f.r[6]), "=r"(f.r[7])
                 : "r"(to_shared(p)), "r"(ld)
                 : "memory");
  }
}
#define WMMA_OPERANDS                                                                                                 \
  "+f"(c.r[0]), "+f"(c.r[1]), "+f"(c.r[2]), "+f"(c.r[3]), "+f"(c.r[4]), "+f"(c.r[5]), "+f"(c.r[6]), "+f"(c.r[7])       \
      : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(a.r[4]), "r"(a.r[5]), "r"(a.r[6]), "r"(a.r[7]),        \
        "r"(b.r[0]), "r"(b.r[1]), "r"(b.r[2]), "r"(b.r[3]), "r"(b.r[4]), "r"(b.r[5]), "r"(b.r[6]), "r"(b.r[7])
template <bool rowMajorB>
__device__ __forceinline__ void wmma_multiply(FragmentC& c, const FragmentAB& a, const FragmentAB& b) {
  if constexpr (rowMajorB) {
    asm volatile("wmma.mma.sync.aligned.row.row.m16n16k16.f32.f32 {%0,%1,%2,%3,%4,%5,%6,%7}, "
                 "{%8,%9,%10,%11,%12,%13,%14,%15}, {%16,%17,%18,%19,%20,%21,%22,%23}, {%0,%1,%2,%3,%4,%5,%6,%7};"
                 : WMMA_OPERANDS);
  } else {
    asm volatile("wmma.mma.sync.aligned.row.col.m16n16k16.f32.f32 {%0,%1,%2,%3,%4,%5,%6,%7}, "
                 "{%8,%9,%10,%11,%12,%13,%14,%15}, {%16,%17,%18,%19,%20,%21,%22,%23}, {%0,%1,%2,%3,%4,%5,%6,%7};"
                 : WMMA_OPERANDS);
  }
}
#undef WMMA_OPERANDS
__device__ __forceinline__ void wmma_store(float* p, const FragmentC& c, int ld) {
  asm volatile("wmma.store.d.sync.aligned.row.m16n16k16.shared.f32 [%0], {%1,%2,%3,%4,%5,%6,%7,%8}, %9;" ::"r"(to_shared(p)),
               "f"(c.r[0]), "f"(c.r[1]), "f"(c.r[2]), "f"(c.r[3]), "f"(c.r[4]), "f"(c.r[5]), "f"(c.r[6]), "f"(c.r[7]), "r"(ld)
               : "memory");
}
#endif
