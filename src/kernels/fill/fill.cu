// fill: writes one bit pattern over a range of memory, for every element size at once.
//
// out: any address aligned to the element; the 8-byte `pattern` is the element's bits repeated (1, 2, 4 or 8 bytes), so
// that it has the same period as the elements and any aligned 8 bytes of the range hold exactly `pattern`.
// Grid: any; threads stride over 16-byte stores. The fewer than 16 bytes before and after the aligned middle are written
// byte by byte by the first 32 threads. Bound by DRAM: `bytes` written, nothing read. 44 registers, no shared memory.
// One variant: the element type would change nothing but the constant.
#include "../common/launch.cuh"

extern "C" __global__ void __launch_bounds__(256) KERNEL_NAME(u8* out, u64 pattern, i64 bytes) {
  const i64 until_aligned = i64((16 - (reinterpret_cast<u64>(out) & 15)) & 15);
  const i64 head = until_aligned < bytes ? until_aligned : bytes;
  const i64 vectors = (bytes - head) / 16;
  const i64 tail = head + vectors * 16;

  ulonglong2* middle = reinterpret_cast<ulonglong2*>(out + head);
  for (i64 i = grid_start(); i < vectors; i += grid_step()) middle[i] = make_ulonglong2(pattern, pattern);

  // Byte k of the range is byte k % 8 of the pattern.
  const i64 thread = grid_start();
  if (thread < head) out[thread] = u8(pattern >> (8 * (thread & 7)));
  if (tail + thread < bytes) out[tail + thread] = u8(pattern >> (8 * ((tail + thread) & 7)));
}
