// Few rows times a weight on the tensor cores, gemv-mma.cuh. Grid: blocks that stay; y: 1; z: batch.
#include "gemv-mma.cuh"

// One product: its tiles lie side by side.
struct Whole {
  struct Stop {};
  const Problem& p;
  __device__ __forceinline__ const Problem& common() const { return p; }
  __device__ __forceinline__ int tiles() const { return tiles_of(p.n, tile_columns(p)); }
  __device__ __forceinline__ Stop stop(int) const { return {}; }
  __device__ __forceinline__ const scalar_t* weight(const Item<Whole>&) const { return p.b; }
  __device__ __forceinline__ int rows(const Item<Whole>&) const { return p.m; }
  __device__ __forceinline__ const scalar_t* x(const Item<Whole>&, int, int row) const { return p.a + row * p.lda; }
  __device__ __forceinline__ const Problem& at(int) const { return p; }
  __device__ __forceinline__ int column(int tile) const { return tile; }
  __device__ __forceinline__ int rows_always() const { return p.m; }
  __device__ __forceinline__ bool knows_weights() const { return true; }
};

extern "C" __global__ void __launch_bounds__(32 * WARPS, RESIDENT) KERNEL_NAME(MATMUL_PARAMETERS) {
  MATMUL_PROBLEM
  extern __shared__ __align__(128) unsigned char shared[];
  multiply_tiles(Whole{p}, shared);
}
