// attention_tiles: attention of many new tokens (prefill), K and V streamed past tiles of query rows.
//
// FlashAttention's loop: a block keeps a tile of queries and its running output, reads K and V of every key that any of its
// rows sees a tile at a time, and corrects the output when a row's maximum rises (online softmax, float32). No score is
// ever written to memory. Masked by position, so a prompt may come in chunks: new token i stands at context - n + i.
//
//   query [T, H, D] (row stride), caches [blocks, G, 16, D], out [T, H, D]; D % 8 == 0, D <= WIDTH.
//   Grid: (row tiles · B, G), the longest tiles first. Block: 128 threads. Sequences with at most 8 new tokens and tiles past
//   a sequence's rows leave at once: the grid is an upper bound.
//
// Two bodies: tensor cores from sm_80 on for 16-bit types (tiles-mma.cuh), CUDA cores elsewhere (tiles-simt.cuh).
//                 tile (rows x keys)        shared memory       registers
//   WIDTH         mma       SIMT            mma      SIMT       mma (f16, bf16)   SIMT (f32)
//   64            64 x 64   64 x 32         24 KB    36 KB      130               124
//   128           64 x 64   32 x 32         48 KB    38 KB      211               96
//   256           64 x 32   16 x 16         64 KB    34 KB      253               96
// Traffic: K and V once per row tile of a key/value head, mostly from L2: group/rows · S²·D·sizeof per head of G. Bound by
// arithmetic: 4·H·D·S²/2 operations for a causal prompt of S tokens. The SIMT body is bound by shared memory, at a
// third of the multiply-add rate or less. Head dims between the widths pay for the next one.
// Variants: dtype, width. Sources: FlashAttention, arXiv 2205.14135; FlashAttention-2, arXiv 2307.08691.
#include "tiles-mma.cuh"
#include "tiles-simt.cuh"

inline constexpr int WIDTH = VARIANT_WIDTH;
#if LLCUDA_TARGET >= 80
inline constexpr bool TENSOR_CORES = !is_same<scalar_t, f32>;
#else
inline constexpr bool TENSOR_CORES = false;
#endif
template <bool tensor_cores>
struct TileBody {
  using Type = SimtTile<WIDTH>;
};
template <>
struct TileBody<true> {
  using Type = MmaTile<WIDTH>;
};
using Tile = TileBody<TENSOR_CORES>::Type;

extern "C" __global__ void __launch_bounds__(TILE_THREADS)
KERNEL_NAME(scalar_t* out, const scalar_t* query, const scalar_t* key_cache, const scalar_t* value_cache,
            const i32* query_starts, const i32* context_lengths, const i32* block_table, i64 query_stride,
            i32 max_blocks, i32 heads, i32 kv_heads, i32 head_dim, i32 row_tiles, i32 window, float scale,
            float softcap) {
  extern __shared__ float4 shared[];
  const i32 sequences = gridDim.x / row_tiles;
  const i32 b = blockIdx.x % sequences, tile = row_tiles - 1 - blockIdx.x / sequences;
  const Sequence seq = load_sequence(b, query_starts, context_lengths, window);
  const i32 rows = seq.queries * (heads / kv_heads), first_row = tile * Tile::ROWS;
  if (seq.queries <= FEW_QUERIES || first_row >= rows) return;
  const TileArgs args = {out, query, key_cache, value_cache, block_table + i64(b) * max_blocks, query_stride,
                         heads, kv_heads, head_dim, scale, softcap, seq, i32(blockIdx.y), first_row, rows};
  Tile(args, reinterpret_cast<decltype(shared[0].x)*>(shared)).run();
}
