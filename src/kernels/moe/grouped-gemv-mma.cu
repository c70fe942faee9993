// The grouped product for few rows an expert, on the tensor cores: the rings of gemv-mma.cuh, which go on from one group's
// tile into the next. 16 bits, sm_80 and newer. What decoding runs on.
//
// Bound by the weights of the chosen experts, each read once for up to 8 (or 16) of its rows: 2 * N * K bytes a group.
// Which weights these are, only the routing knows: the first product cannot fetch any before that has ended, the second
// one can (EARLY_TABLE). A row's bits depend neither on its group nor on how many rows there are.
// Grid: blocks that stay and share out the tiles of all groups, those of one group side by side.
#include "grouped.cuh"
#include "../matmul/gemv-mma.cuh"

struct Grouped {
  const GroupedProduct& product;
  int columnTiles;

  __device__ __forceinline__ const Problem& common() const { return product.p; }
  __device__ __forceinline__ int tiles() const { return product.groups() * columnTiles; }
  __device__ __forceinline__ Problem at(int tile) const { return product.group(tile / columnTiles); }
  __device__ __forceinline__ int column(int tile) const { return tile % columnTiles; }
  __device__ __forceinline__ int rows_always() const { return 0; }
  __device__ __forceinline__ bool knows_weights() const { return product.p.has(EARLY_TABLE); }
};

extern "C" __global__ void __launch_bounds__(32 * WARPS, RESIDENT) KERNEL_NAME(GROUPED_PARAMETERS) {
  GROUPED_PRODUCT
  extern __shared__ __align__(128) unsigned char shared[];
  multiply_tiles(Grouped{product, tiles_of(n, tile_columns(product.p))}, shared);
}
