// copy_tiled: a transpose, batched: out[batch, r, c] = x[batch, r, c] where out is contiguous along c and x along r.
//
// Reading along r and writing along c would make one of the two touch 32 memory sectors per warp for 32 elements. A
// block instead moves a TILE x TILE square through shared memory: reads run along r, writes along c, both coalesced.
// Shared memory: TILE rows of TILE elements and 4 bytes (or one element) of padding, so that a column's elements lie in
// different banks. Traffic: each byte read once and written once; bound by DRAM.
// Grid: any; a block strides over the tiles of all batches. Block: 32 x 8 threads, each moves TILE * TILE / 256 elements.
// Registers 35 to 50; shared memory 4.2 KB (4 bytes), 8.4 KB (2 and 8 bytes), 4.4 KB (1 byte).
#include "../common/dims.cuh"
#include "../common/launch.cuh"

template <int bytes> struct UnitOf;
template <> struct UnitOf<1> { using type = unsigned char; };
template <> struct UnitOf<2> { using type = unsigned short; };
template <> struct UnitOf<4> { using type = unsigned int; };
template <> struct UnitOf<8> { using type = uint2; };
using Unit = UnitOf<VARIANT_BYTES>::type;

constexpr int TILE = VARIANT_BYTES <= 2 ? 64 : 32; // 64 or more bytes along each side
constexpr int PADDING = VARIANT_BYTES < 4 ? 4 / VARIANT_BYTES : 1;

// rows, cols: sizes along r and c; x_col: stride of x along c; out_row: stride of out along r. The batch dimensions are
// `rank` of `shape`, `batches` in all.
extern "C" __global__ void __launch_bounds__(256)
    KERNEL_NAME(Unit* out, const Unit* x, i64 rows, i64 cols, i64 out_row, i64 x_col, i64 batches, int rank, Dims shape,
                Dims out_strides, Dims x_strides) {
  __shared__ Unit tile[TILE][TILE + PADDING];
  const i64 tiles_r = (rows + TILE - 1) / TILE;
  const i64 tiles_c = (cols + TILE - 1) / TILE;
  const i64 tiles = tiles_r * tiles_c;

  for (i64 t = blockIdx.x; t < tiles * batches; t += gridDim.x) {
    const i64 batch = t / tiles;
    const i64 r0 = (t - batch * tiles) / tiles_c * TILE;
    const i64 c0 = (t - batch * tiles) % tiles_c * TILE;
    const Offsets base = offsets_of(batch, batches, rank, shape, out_strides, x_strides);

    // Read: neighbouring threads along r.
    for (int c = threadIdx.y; c < TILE; c += 8) {
      for (int r = threadIdx.x; r < TILE; r += 32) {
        if (r0 + r < rows && c0 + c < cols) tile[c][r] = x[base.b + r0 + r + (c0 + c) * x_col];
      }
    }
    __syncthreads();
    // Write: neighbouring threads along c.
    for (int r = threadIdx.y; r < TILE; r += 8) {
      for (int c = threadIdx.x; c < TILE; c += 32) {
        if (r0 + r < rows && c0 + c < cols) out[base.a + (r0 + r) * out_row + c0 + c] = tile[c][r];
      }
    }
    __syncthreads(); // the tile is free again
  }
}
