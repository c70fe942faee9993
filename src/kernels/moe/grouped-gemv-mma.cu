// The grouped product for few rows an expert, on the tensor cores: the rings of gemv-mma.cuh, which go on from one group's
// tile into the next. 16 bits, sm_80 and newer. What decoding runs on.
//
// Bound by the weights of the chosen experts, each read once for up to 8 (or 16) of its rows: 2 * N * K bytes a group.
// Which weights these are, only the routing knows: the first product cannot fetch any before that has ended, the second
// one can (EARLY_TABLE). A row's bits depend neither on its group nor on how many rows there are.
// A block copies the table (`groups` entries at most) and the order of all `slots` to shared memory first, in one memory latency:
// it asks for every tile where its weight and its rows lie, which from L2 would be most of the time that a tile takes.
// Grid: blocks that stay and share out the tiles of all groups, those of one group side by side.
#include "grouped.cuh"
#include "../matmul/gemv-mma.cuh"

struct Grouped {
  struct Stop {
    const scalar_t* weight;
    const scalar_t* x[X_STEPS]; // where this lane's rows begin
    int rows;
  };
  const GroupedProduct& product;
  int columnTiles, count; // tiles of a group, and of all

  __device__ __forceinline__ const Problem& common() const { return product.p; }
  __device__ __forceinline__ int tiles() const { return count; }
  __device__ __forceinline__ Stop stop(int tile) const {
    Stop stop = {};
    if (tile >= count) return stop;
    const Problem p = at(tile);
    stop.weight = p.b;
    stop.rows = p.m;
#pragma unroll
    for (int i = 0; i < X_STEPS; i++) {
      const int row = i * ROWS_AT_ONCE + threadIdx.x % 32 / PIECES;
      stop.x[i] = p.a + p.row_in_a(row) * p.lda;
    }
    return stop;
  }
  __device__ __forceinline__ const scalar_t* weight(const Item<Grouped>& item) const { return item.stop.weight; }
  __device__ __forceinline__ int rows(const Item<Grouped>& item) const { return item.stop.rows; }
  __device__ __forceinline__ const scalar_t* x(const Item<Grouped>& item, int i, int) const { return item.stop.x[i]; }
  __device__ __forceinline__ Problem at(int tile) const { return product.group(tile / columnTiles); }
  __device__ __forceinline__ int column(int tile) const { return tile % columnTiles; }
  __device__ __forceinline__ int rows_always() const { return 0; }
  __device__ __forceinline__ bool knows_weights() const { return product.p.has(EARLY_TABLE); }
};

extern "C" __global__ void __launch_bounds__(32 * WARPS, RESIDENT) KERNEL_NAME(GROUPED_PARAMETERS, int groups, int slots) {
  extern __shared__ __align__(128) unsigned char shared[];
  if (!(flags & EARLY_TABLE)) wait_for_previous();
  int4* ownTable = reinterpret_cast<int4*>(shared + RING_BYTES);
  i32* ownOrder = reinterpret_cast<i32*>(ownTable + 1 + groups);
  for (int i = threadIdx.x; i < 1 + groups; i += 32 * WARPS) ownTable[i] = reinterpret_cast<const int4*>(table)[i];
  for (int i = threadIdx.x; i < slots; i += 32 * WARPS) ownOrder[i] = order[i];
  __syncthreads();
  table = reinterpret_cast<const i32*>(ownTable);
  order = ownOrder;
  GROUPED_PRODUCT
  const int columnTiles = tiles_of(n, tile_columns(product.p));
  multiply_tiles(Grouped{product, columnTiles, product.groups() * columnTiles}, shared);
}
