// The grouped product for many rows an expert, on the tensor cores: the tiles of gemm-mma.cuh. 16 bits, sm_80 and newer.
//
// A group has up to BM rows, so a block's tile of D is one group and BN columns. Rows of A are gathered by the copies
// themselves: a row of a stage is 128 bytes, whole lines, wherever the row lies.
// Grid: groups times column tiles, those of a group side by side: they share its rows of A, and groups of one expert, which
// follow each other, its weight, in L2. Blocks past the last group end at once.
// Bound by mma: 2 S N K over its rate; what is lost are the unfilled rows of each expert's last group, half a tile an expert.
#define VARIANT_B nk
#include "grouped.cuh"
#include "../matmul/gemm-mma.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, Tile::BLOCKS) KERNEL_NAME(GROUPED_PARAMETERS) {
  GROUPED_PRODUCT
  extern __shared__ __align__(128) unsigned char shared[];
  const int columnTiles = tiles_of(n, tile_columns(product.p));
  const int group = blockIdx.x / columnTiles;
  if (!product.has_group(group)) return;
  multiply_tile(product.group(group), {0, int(blockIdx.x) % columnTiles}, shared);
}
