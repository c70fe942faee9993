// The general product, one tile of gemm-simt.cuh a block. Grid: tiles (tile_of_block); z: batch.
#include "gemm-simt.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, 512 / THREADS) KERNEL_NAME(MATMUL_PARAMETERS) {
  MATMUL_PROBLEM
  multiply_tile(p, tile_of_block(tiles_of(p.m, BM), tiles_of(p.n, tile_columns(p))));
}
