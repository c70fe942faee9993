// The grouped product for many rows an expert, on the ordinary arithmetic units: the tiles of gemm-simt.cuh. Any target, dtype
// and alignment; float32 stays float32. Grid and groups as in grouped-mma.cu.
#include "grouped.cuh"
#include "../matmul/gemm-simt.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, 512 / THREADS) KERNEL_NAME(GROUPED_PARAMETERS) {
  GROUPED_PRODUCT
  const int columnTiles = tiles_of(n, tile_columns(product.p));
  const int group = blockIdx.x / columnTiles;
  if (!product.has_group(group)) return;
  multiply_tile(product.group(group), {0, int(blockIdx.x) % columnTiles});
}
