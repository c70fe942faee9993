// What a kernel needs to know about its launch: its share of a flat range, and the overlap with its neighbours.
#pragma once
#include "types.cuh"

// for (i64 i = grid_start(); i < n; i += grid_step()) ...: any grid covers any n, one-dimensional blocks.
__device__ __forceinline__ i64 grid_start() { return i64(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ __forceinline__ i64 grid_step() { return i64(gridDim.x) * blockDim.x; }

// Programmatic dependent launch (sm_90 and newer; launch() with `overlap: true`): the kernel may start while the one
// before it in the stream still runs. Everything that reads or writes memory which that kernel touches comes after
// wait_for_previous(); loads of weights may come before. A launch with overlap of a kernel that never waits is a race.
// Both compile to nothing for older targets, where launches do not overlap.
__device__ __forceinline__ void wait_for_previous() {
#if LLCUDA_TARGET >= 90
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Lets the next kernel of the stream start (it still waits for this one to end before it reads). Call it early.
__device__ __forceinline__ void allow_next() {
#if LLCUDA_TARGET >= 90
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
