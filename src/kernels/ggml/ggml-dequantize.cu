// Dequantization of GGML blocks: out[r, k] = value of W[row(r), k], rounded from float32; row(r) = r, or ids[r] (an embedding).
//
// W [N, K] in blocks along K, K a multiple of the block; out [R, K] row-major. An id outside 0 <= id < N reads nothing and
// gives a row of NaN.
// Grid: one warp takes 256 values of a row: a lane reads two quads (see blocks.cuh), 8 values, and stores them as two vectors
// of four. The blocks' odd sizes make loads of 2 and 4 bytes; a warp's loads lie in one block, so L1 serves all but the first.
// Traffic: the blocks once, out once: out's bytes dominate (2 to 4 bytes a value against 0.3 to 1.06). Bound by DRAM.
// float32 out is bit-equal to gguf-py: the same operations in the same order (value_of).
#include "../common/launch.cuh"
#include "blocks.cuh"

using Format = VARIANT_TYPE;

extern "C" __global__ void __launch_bounds__(256)
    KERNEL_NAME(scalar_t* out, const u8* weight, const i32* ids, i32 rows, i32 cols, i32 n, float factor) {
  wait_for_previous();
  allow_next();
  const int spans = (cols + SPAN - 1) / SPAN;
  const i64 rowBytes = i64(cols) / Format::VALUES * Format::BYTES;
  const int lane = threadIdx.x % 32;
  const int c = lane / 8, t = lane / 2 % 4, i0 = lane % 2 * 2;
  for (i64 item = grid_start() / 32; item < i64(rows) * spans; item += grid_step() / 32) {
    const int row = int(item / spans), span = int(item % spans);
    const i32 source = ids ? ids[row] : row;
    const bool valid = source >= 0 && source < n;
    const u8* p = weight + (valid ? source : 0) * rowBytes + i64(span) * span_bytes<Format>;
#pragma unroll
    for (int i = i0; i < i0 + 2; i++) {
      const int in_span = CHUNK * c + Format::offset(t, i), k = SPAN * span + in_span;
      if (k >= cols) continue;
      Vec<scalar_t, 4> four;
      if (valid) {
        const Scale s = Format::scale_of(p, in_span / Format::GROUP);
        const u32 q = Format::quad(p, c, t, i);
#pragma unroll
        for (int j = 0; j < 4; j++) four[j] = from_float<scalar_t>(value_of<Format>(s, q >> 8 * j & 255u) * factor);
      } else {
#pragma unroll
        for (int j = 0; j < 4; j++) four[j] = from_float<scalar_t>(__int_as_float(0x7fffffff));
      }
      *reinterpret_cast<Vec<scalar_t, 4>*>(out + i64(row) * cols + k) = four;
    }
  }
}
