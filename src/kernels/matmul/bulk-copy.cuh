// Copies by the copy engine (TMA) and the barriers in shared memory that count what has arrived; sm_90 and newer.
//
//   mbarrier    a counter in shared memory that flips its phase when the expected threads have arrived and the expected
//               bytes have landed; waiting means asking for the parity (0, 1, 0, ...) of the phase that must be over
//   bulk copy   one thread asks the copy engine for a whole box of a matrix; a tensor map, made on the host, says where the
//               matrix lies, and the engine computes addresses, swizzles, and fills with zero past the edges
#pragma once

#include "../common/types.cuh"

// A CUtensorMap: opaque, passed by value as a __grid_constant__ parameter.
struct alignas(64) TensorMap {
  unsigned char bytes[128];
};

// ---- mbarrier ------------------------------------------------------------------------------------------------------

__device__ __forceinline__ void barrier_init(u32 barrier, u32 arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}

// Makes the initialised barriers visible to the copy engine and to the other blocks of the cluster.
__device__ __forceinline__ void barrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ __forceinline__ void barrier_arrive(u32 barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// Arrives once and says how many bytes the copy engine will deliver in this phase.
__device__ __forceinline__ void barrier_expect_bytes(u32 barrier, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

// Arrives at the barrier at the same place in the shared memory of block `rank` of this cluster.
__device__ __forceinline__ void barrier_arrive_at(u32 barrier, u32 rank) {
  asm volatile(
      "{\n"
      ".reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [remote];\n"
      "}" ::"r"(barrier), "r"(rank) : "memory");
}

// Returns when the phase of `parity` is over. try_wait sleeps in hardware for a while before it answers.
__device__ __forceinline__ void barrier_wait(u32 barrier, u32 parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}" ::"r"(barrier), "r"(parity) : "memory");
}

// The same where all that arrives is of this block and its copies: it need not let go of what L1 has.
__device__ __forceinline__ void barrier_wait_block(u32 barrier, u32 parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}" ::"r"(barrier), "r"(parity) : "memory");
}

// ---- bulk copies ---------------------------------------------------------------------------------------------------

// Fetches the tensor map ahead of its first use.
__device__ __forceinline__ void prefetch_map(const TensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// Copies the box whose first element is (row, col) to shared memory; its bytes count towards `barrier`.
__device__ __forceinline__ void load_box(u32 dst, const TensorMap* map, int row, int col, u32 barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(dst),
      "l"(map), "r"(col), "r"(row), "r"(barrier)
      : "memory");
}

// A box of three dimensions, whose first element is (plane, row, col).
__device__ __forceinline__ void load_box(u32 dst, const TensorMap* map, int plane, int row, int col, u32 barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];" ::"r"(dst),
      "l"(map), "r"(col), "r"(row), "r"(plane), "r"(barrier)
      : "memory");
}

// The same as the first, delivered to the same place (and counted at the same barrier) in every block of the cluster in `mask`.
__device__ __forceinline__ void load_box_multicast(u32 dst, const TensorMap* map, int row, int col, u32 barrier, u32 mask) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster"
      " [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(dst),
      "l"(map), "r"(col), "r"(row), "r"(barrier), "h"((unsigned short)mask)
      : "memory");
}

// Copies a box from shared memory; what lies past the edges of the matrix is dropped.
__device__ __forceinline__ void store_box(const TensorMap* map, int row, int col, u32 src) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];" ::"l"(map), "r"(col), "r"(row),
               "r"(src)
               : "memory");
}

__device__ __forceinline__ void store_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

// Waits until at most `PENDING` of this thread's stores still read their shared memory.
template <int PENDING>
__device__ __forceinline__ void store_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(PENDING) : "memory");
}

__device__ __forceinline__ void store_wait_all() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }

// Ordinary writes to shared memory before it are seen by bulk copies after it.
__device__ __forceinline__ void fence_for_bulk_copy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
