// 17 and more rows times a weight in 4-bit codes on the tensor cores: D[M, N] = x[M, K] · W[N, K]^T, f16 and bf16, sm_80 and
// newer. See quant-gemm.cuh for how warps divide the work; code4-wgmma.cu is the same for Hopper.
//
// A lane reads the 8 bytes of a row's chunk whose 16 values follow one another, and looks up two values at a time in the table of
// code4-loader.cuh; of x it reads the same 16 values, so that W needs no repacking. The levels of a chunk are multiplied with x,
// and the sums, times absmax, added up in float32: weights are not rounded to 16 bits.
// Bound by shared memory: of every 128 elements of K, a block of 64 rows reads 128 KB of x, 32 KB of the table and 8 KB of codes,
// and writes 24: 1540 clocks, 25 us for 14336 x 4096 on 132 multiprocessors.
// Needs K a multiple of 64, blocks of 64 values or more. Shared memory: gemmLayout and gemmBlock in gemm-layout.ts.
#include "quant-gemm.cuh"
#include "code4-loader.cuh"


// Eight bytes of codes to the pairs of levels of four multiplications.
__device__ __forceinline__ void decode(u32 (&pairs)[8], uint2 codes, const u8* table) {
  const u32 mine = threadIdx.x % 32 * 4;
#pragma unroll
  for (int i = 0; i < 8; i++) {
    const u32 word = i < 4 ? codes.x : codes.y;
    const u32 shifted = i % 4 == 0 ? word << 7 : word >> (8 * (i % 4) - 7);
    pairs[i] = *reinterpret_cast<const u32*>(table + ((shifted & 0x7f80u) | mine));
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) KERNEL_NAME(QUANT_PARAMETERS, float* parts, int splits, int passRows, int xStages, int wStages) {
  QUANT_PROBLEM
  p.alpha = 1.0f / levelScale;
  extern __shared__ __align__(128) u8 shared[];
  const Place place(p, passRows);
  const Column columns(p, place.tile);
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int slice = threadIdx.x / 32 / ROW_WARPS, warpColumn = threadIdx.x / 32 % ROW_WARPS * WARP_ROWS;
  const Part<STEP> part(p.k, splits);
  Rings<MmaLayout> rings(p, place, part, shared + TABLE_BYTES + NESTED_BYTES + SCALES_BYTES, passRows, xStages, wStages, BN * ROW_BYTES);
  const CodeCopies<THREADS> copies(p, weight, columns);
  const auto copy_span = [&](shared_address stage, int span) { copies.start(p, stage, span); };
  SpanScales<THREADS> scales(CODE4_ABSMAX, p, columns, shared, part.firstSpan);
  fill_tables<THREADS>(shared, code, levelScale, nestedCode);
  allow_next();
  wait_for_previous();

  rings.fill(p, copy_span);

  float total[NB][4] = {};
#pragma unroll 1
  for (int step = part.first; step < part.end; step++) {
    rings.advance(p, step, copy_span);
    if (step % 2 == 0) scales.advance(step / 2);
    const int c = step % 2 * SLICES + slice;
    if (STEP * step + CHUNK * slice >= p.k) continue;
    u32 w[2][8];
    const u8* codes = rings.w_stage() + (warpColumn + g) * ROW_BYTES + 16 * ((2 * c + t / 2) ^ (g & 3) << 1) + t % 2 * 8;
#pragma unroll
    for (int h = 0; h < 2; h++) decode(w[h], *reinterpret_cast<const uint2*>(codes + 8 * h * ROW_BYTES), shared);
    const float* absmaxes = scales.at(step / 2) + c * BN + warpColumn + g;
    const float scale[2] = {absmaxes[0], absmaxes[8]};
    multiply<code4, true>(total, w, scale, rings.x_chunk(slice), place.halves);
  }
  finish(p, place, columns, total, slice, warpColumn, reinterpret_cast<float*>(shared), parts, splits);
}
