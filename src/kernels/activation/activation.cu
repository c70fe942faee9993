// Gated activation: out[r, f] = act(gate[r, f]) * up[r, f], act = SiLU or GELU (tanh form)
//
// gate, up, out: rows of F elements with a stride each, so that gate and up may be the halves of one fused [R, 2F].
// Grid: x over F, 16 bytes a thread; y over rows. Traffic: 2 R F elements read, R F written; bound by DRAM: about 12
// float operations an element are free beside 6 bytes. expf is the accurate one: float32 is the reference mode.
// Registers: 32 to 53 (ptxas), no shared memory. Variants: dtype; the activation is an argument, for one uniform branch
// costs nothing beside the loads.
#include "../common/launch.cuh"
#include "../common/types.cuh"
#include "gated.cuh"

extern "C" __global__ void __launch_bounds__(128)
    KERNEL_NAME(scalar_t* out, const scalar_t* gate, const scalar_t* up, i64 out_stride, i64 gate_stride, i64 up_stride,
                i32 rows, i32 cols, i32 kind) {
  wait_for_previous();
  allow_next();
  const int start = (blockIdx.x * blockDim.x + threadIdx.x) * VEC;
  if (start >= cols) return;
  const int count = min(VEC, cols - start);

  for (i64 row = blockIdx.y; row < rows; row += gridDim.y) {
    const scalar_t* g = gate + row * gate_stride + start;
    const scalar_t* u = up + row * up_stride + start;
    scalar_t* y = out + row * out_stride + start;
    const u64 addresses = reinterpret_cast<u64>(g) | reinterpret_cast<u64>(u) | reinterpret_cast<u64>(y);
    if (count == VEC && (addresses & 15) == 0) {
      Vec<float, VEC> a = to_floats(load_vec(g));
      const Vec<float, VEC> b = to_floats(load_vec(u));
#pragma unroll
      for (int i = 0; i < VEC; i++) a[i] = gated(a[i], b[i], kind);
      store_vec(y, from_floats<scalar_t>(a));
    } else {
      for (int i = 0; i < count; i++) y[i] = from_float<scalar_t>(gated(to_float(g[i]), to_float(u[i]), kind));
    }
  }
}
