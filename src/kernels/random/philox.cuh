// Philox4x32 with ten rounds. The constants are the paper's; src/kernels/random/philox.ts computes the same.
#pragma once
#include "../common/types.cuh"

// Four random words for a 64-bit counter (the upper 64 bits of Philox's counter are 0) under a 64-bit key.
__device__ __forceinline__ uint4 philox(u64 key, u64 counter) {
  u32 k0 = u32(key), k1 = u32(key >> 32);
  uint4 c = make_uint4(u32(counter), u32(counter >> 32), 0, 0);
#pragma unroll
  for (int round = 0; round < 10; round++) {
    const u64 p0 = u64(0xD2511F53u) * c.x;
    const u64 p1 = u64(0xCD9E8D57u) * c.z;
    c = make_uint4(u32(p1 >> 32) ^ c.y ^ k0, u32(p1), u32(p0 >> 32) ^ c.w ^ k1, u32(p0));
    k0 += 0x9E3779B9u; // the golden ratio, and the square root of 3 less 1
    k1 += 0xBB67AE85u;
  }
  return c;
}
