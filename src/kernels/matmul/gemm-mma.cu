// The tensor-core product of sm_80 and newer, one tile of gemm-mma.cuh a block. Grid: tiles (tile_of_block); z: batch.
#include "gemm-mma.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, Tile::BLOCKS) KERNEL_NAME(MATMUL_PARAMETERS) {
  MATMUL_PROBLEM
  extern __shared__ __align__(128) unsigned char shared[];
  multiply_tile(p, tile_of_block(tiles_of(p.m, BM), tiles_of(p.n, tile_columns(p))), shared);
}
