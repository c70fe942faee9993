// The instructions of Hopper (sm_90a) that the matmul in hopper.cu is made of, one small function each; bulk copies and their
// barriers are in bulk-copy.cuh.
//
//   wgmma       four warps (a warpgroup) multiply tiles that lie in shared memory, asynchronously
//   cluster     two or more blocks on neighbouring multiprocessors that may address each other's shared memory
#pragma once

#include "bulk-copy.cuh"

// Shared-memory addresses are 32-bit in PTX.
__device__ __forceinline__ u32 shared_address(const void* p) { return u32(__cvta_generic_to_shared(p)); }

// ---- wgmma ---------------------------------------------------------------------------------------------------------

// Describes an operand tile in shared memory: rows of 64 16-bit elements (128 bytes) along K, whose 16-byte pieces are
// swizzled within groups of eight rows (the copy engine's 128-byte swizzle). Bits 0-13 address / 16, 32-45 distance from
// one group of eight rows to the next / 16, 62-63 the swizzle. Groups must be aligned to 1024 bytes.
__device__ __forceinline__ u64 tile_descriptor(u32 address) {
  return u64((address & 0x3ffff) >> 4) | (u64(1) << 16) | (u64(1024 >> 4) << 32) | (u64(1) << 62);
}

// The next 16 elements along K: 32 bytes further, which the swizzle (it depends on address bits 7-9 only) allows.
inline constexpr u64 kDescriptorStepK16 = 32 >> 4;

// Before the first wgmma that uses registers which ordinary instructions have touched.
__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Waits until at most `PENDING` committed groups are unfinished.
template <int PENDING>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

// Keeps the compiler from moving accumulators to other registers while a wgmma writes them.
template <int COUNT>
__device__ __forceinline__ void pin_registers(float (&d)[COUNT]) {
#pragma unroll
  for (int i = 0; i < COUNT; i++) asm volatile("" : "+f"(d[i])::"memory");
}

// d[64, N] = a[64, 16] · b[N, 16]^T + (accumulate ? d : 0). A thread holds N / 2 of the 64 x N sums: d[4j + 0, 1] is row
// lane / 4 of its warp's 16 rows, columns 8j + 2 (lane % 4) and the next one; d[4j + 2, 3] is eight rows further down.
// The macros only write out the register lists: TEN(1) is "%10, ..., %19", EIGHT(d, 8) binds d[8] ... d[15].
#define TEN(t) "%" #t "0,%" #t "1,%" #t "2,%" #t "3,%" #t "4,%" #t "5,%" #t "6,%" #t "7,%" #t "8,%" #t "9"
#define EIGHT(d, i)                                                                                               \
  "+f"(d[(i)]), "+f"(d[(i) + 1]), "+f"(d[(i) + 2]), "+f"(d[(i) + 3]), "+f"(d[(i) + 4]), "+f"(d[(i) + 5]),         \
      "+f"(d[(i) + 6]), "+f"(d[(i) + 7])
#define THIRTY_TWO(d, i) EIGHT(d, i), EIGHT(d, (i) + 8), EIGHT(d, (i) + 16), EIGHT(d, (i) + 24)
#define WGMMA(shape, types, registers, a, b, flag, ...)                                                           \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" flag ", 0;\n"                                                 \
               "wgmma.mma_async.sync.aligned." shape "k16.f32." types " {" registers "}, %" a ", %" b             \
               ", p, 1, 1, 0, 0;\n}"                                                                              \
               : __VA_ARGS__                                                                                      \
               : "l"(desc_a), "l"(desc_b), "r"(int(accumulate)))

#define REGISTERS_32 TEN() "," TEN(1) "," TEN(2) ",%30,%31"
#define REGISTERS_64 TEN() "," TEN(1) "," TEN(2) "," TEN(3) "," TEN(4) "," TEN(5) ",%60,%61,%62,%63"
#define REGISTERS_128                                                                                             \
  TEN() "," TEN(1) "," TEN(2) "," TEN(3) "," TEN(4) "," TEN(5) "," TEN(6) "," TEN(7) "," TEN(8) "," TEN(9) "," TEN(10) \
  "," TEN(11) ",%120,%121,%122,%123,%124,%125,%126,%127"

template <typename T, int COUNT>
__device__ __forceinline__ void wgmma(float (&d)[COUNT], u64 desc_a, u64 desc_b, bool accumulate) {
  static_assert(COUNT == 32 || COUNT == 64 || COUNT == 128, "N is 64, 128 or 256");
  if constexpr (COUNT == 32 && is_same<T, bf16>) {
    WGMMA("m64n64", "bf16.bf16", REGISTERS_32, "32", "33", "34", THIRTY_TWO(d, 0));
  } else if constexpr (COUNT == 32) {
    WGMMA("m64n64", "f16.f16", REGISTERS_32, "32", "33", "34", THIRTY_TWO(d, 0));
  } else if constexpr (COUNT == 64 && is_same<T, bf16>) {
    WGMMA("m64n128", "bf16.bf16", REGISTERS_64, "64", "65", "66", THIRTY_TWO(d, 0), THIRTY_TWO(d, 32));
  } else if constexpr (COUNT == 64) {
    WGMMA("m64n128", "f16.f16", REGISTERS_64, "64", "65", "66", THIRTY_TWO(d, 0), THIRTY_TWO(d, 32));
  } else if constexpr (is_same<T, bf16>) {
    WGMMA("m64n256", "bf16.bf16", REGISTERS_128, "128", "129", "130", THIRTY_TWO(d, 0), THIRTY_TWO(d, 32),
          THIRTY_TWO(d, 64), THIRTY_TWO(d, 96));
  } else {
    WGMMA("m64n256", "f16.f16", REGISTERS_128, "128", "129", "130", THIRTY_TWO(d, 0), THIRTY_TWO(d, 32),
          THIRTY_TWO(d, 64), THIRTY_TWO(d, 96));
  }
}

// ---- the rest ------------------------------------------------------------------------------------------------------

// Hands registers back to, or takes them from, the multiprocessor's pool; executed by whole warpgroups.
template <int COUNT>
__device__ __forceinline__ void registers_shrink() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}
template <int COUNT>
__device__ __forceinline__ void registers_grow() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}

__device__ __forceinline__ u32 cluster_rank() {
  u32 r;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
  return r;
}

// All threads of all blocks of the cluster.
__device__ __forceinline__ void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// Under programmatic overlap: waits until the stream's previous kernel has finished. Otherwise it does nothing.
__device__ __forceinline__ void wait_for_previous_kernel() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

// Four 8 x 8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8.
__device__ __forceinline__ void store_matrices(u32 address, u32 a, u32 b, u32 c, u32 d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(a), "r"(b), "r"(c),
               "r"(d)
               : "memory");
}

__device__ __forceinline__ void store_shared(u32 address, float x, float y) {
  asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(address), "f"(x), "f"(y) : "memory");
}

__device__ __forceinline__ float2 load_shared(u32 address) {
  return *reinterpret_cast<const float2*>(__cvta_shared_to_generic(address));
}

// Two float32 to two adjacent 16-bit elements, rounded to nearest even.
template <typename T>
__device__ __forceinline__ u32 pack(float low, float high) {
  u32 r;
  if constexpr (is_same<T, bf16>) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  }
  return r;
}
