// 9 and more rows times a quantized weight on the tensor cores of sm_70 and sm_75: D[M, N] = x[M, K] · W[N, K]^T, f16, wmma
// 16 x 16 x 16, every format in one kernel.
//
//   x and W -> registers (next chunk: W decoded to f16) ... -> shared memory, one buffer -> fragments -> sums in registers
//
// A block computes 64 x 128 of D, each of its 8 warps 32 x 32, K advances 64. These GPUs have no cp.async: a thread loads its part
// of the next chunk to registers, half a row of W and 16 values of x, while the present one is multiplied; two blocks a
// multiprocessor cover what each waits for. Values are rounded once from float32, as when the weight is dequantized.
// Bound by wmma, beside which some five operations decode a value: 2MNK over 125 TFLOP/s on V100 (14336 x 4096, M = 64: 60 us;
// dequantizing that weight alone moves 150 MB: 170 us at 0.9 TB/s).
// Needs rows of x that start on 16 bytes; 4-bit codes: K a multiple of 64, blocks of 64 values or more. Shared memory: 29 KB.
#include "gemm-place.cuh"
#include "affine.cuh"

constexpr int THREADS = 256;
constexpr int WM = 32, MI = WM / 16, NI = WN / 16;
constexpr int ROW = CHUNK + 8; // elements between rows in shared memory
constexpr int ROWS_AT_ONCE = THREADS / 8, X_LOADS = BM / ROWS_AT_ONCE;
constexpr int CODE4_TYPE = 12;
static_assert(WM * SUMS_ROW * 4 <= (BM + BN) * ROW * 2, "the sums of half a tile fit where its operands were");

// Half of a row's chunk: the quads of t = 2 half and 2 half + 1. Two threads a row.
struct Half {
  uint2 values[8];

  // A GGML type. c: chunk of the span; k: elements of it that exist.
  template <class F>
  __device__ __forceinline__ void load(const u8* span, int c, int k) {
    constexpr int GROUPS = CHUNK / F::GROUP;
#pragma unroll
    for (int group = 0; group < GROUPS; group++) {
      const bool exists = F::GROUP * group < k;
      const Affine<F> affine(exists ? F::scale_of(span, GROUPS * c + group) : Scale{0.0f, 0.0f});
#pragma unroll
      for (int j = 0; j < 8; j++) {
        if (j % 4 * GROUPS / 4 != group) continue;
        values[j] = affine.round(exists ? F::quad(span, c, threadIdx.x % 2 * 2 + j / 4, j % 4) : 0);
      }
    }
  }
  // 4-bit codes: eight bytes of levels times absmax, rounded to bf16 first where the weight was that.
  __device__ __forceinline__ void load_codes(const u8* codes, float absmax, const float (*levels)[32], bool roundFirst) {
#pragma unroll
    for (int j = 0; j < 8; j++) {
      const u32 quad = code4::quad(codes, 0, threadIdx.x % 2 * 2 + j / 4, j % 4);
      float v[4];
#pragma unroll
      for (int e = 0; e < 4; e++) {
        v[e] = levels[quad >> 8 * e & 15u][threadIdx.x % 32] * absmax;
        if (roundFirst) v[e] = to_float(from_float<bf16>(v[e]));
      }
      values[j] = {round_pair(v[0], v[1]), round_pair(v[2], v[3])};
    }
  }
  // Where a quad lies in a chunk depends on the type's order.
  __device__ __forceinline__ void store(scalar_t* row, int type) const {
    const int perT = type < 9 ? 4 : type == CODE4_TYPE ? 16 : 8;
    const int perPair = type == CODE4_TYPE ? 8 : 32, per = type < 9 ? 16 : 4;
#pragma unroll
    for (int j = 0; j < 8; j++) {
      const int offset = (threadIdx.x % 2 * 2 + j / 4) * perT + j % 4 / 2 * perPair + j % 2 * per;
      *reinterpret_cast<uint2*>(row + offset) = values[j];
    }
  }
};

__device__ __forceinline__ void multiply_chunk(FragmentC (&sum)[MI][NI], const scalar_t* x, const scalar_t* w) {
#pragma unroll
  for (int k = 0; k < CHUNK; k += 16) {
    FragmentAB a[MI], b[NI];
#pragma unroll
    for (int i = 0; i < MI; i++) wmma_load_a(a[i], x + 16 * i * ROW + k, ROW);
#pragma unroll
    for (int j = 0; j < NI; j++) wmma_load_b<false>(b[j], w + 16 * j * ROW + k, ROW);
#pragma unroll
    for (int i = 0; i < MI; i++) {
#pragma unroll
      for (int j = 0; j < NI; j++) wmma_multiply<false>(sum[i][j], a[i], b[j]);
    }
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
    KERNEL_NAME(QUANT_PARAMETERS, float* parts, int splits, int type, int spanBytes) {
  QUANT_PROBLEM
  __shared__ __align__(32) scalar_t shared[(BM + BN) * ROW];
  __shared__ float levels[16][32]; // one copy a lane
  const Place place(p, BM);
  const Column columns(p, place.tile);
  const Part<CHUNK> part(p.k, splits);
  const int warp = threadIdx.x / 32, warpRow = warp / (BN / WN) * WM, warpColumn = warp % (BN / WN) * WN;
  const Absmax scales = CODE4_ABSMAX;
  if (type == CODE4_TYPE) {
    for (int at = threadIdx.x; at < 16 * 32; at += THREADS) levels[at / 32][at % 32] = code[at / 32];
  }
  __syncthreads();

  const int line = threadIdx.x / 8, unit = threadIdx.x % 8; // of x
  const int wRow = threadIdx.x / 2;
  const i64 row = existing_row(p, columns, wRow);
  const u8* wFrom = weight + row * (i64(p.k) * spanBytes / SPAN);
  vec_t x[X_LOADS];
  Half half;
  const auto load = [&](int step) {
    const int k = step * CHUNK, c = step % (SPAN / CHUNK);
#pragma unroll
    for (int i = 0; i < X_LOADS; i++) {
      const int r = line + ROWS_AT_ONCE * i;
      if (r < p.m - place.row0 && k + 8 * unit < p.k) x[i] = load_vec(p.a + (place.row0 + r) * p.lda + k + 8 * unit);
      else x[i] = {};
    }
    const u8* span = wFrom + i64(step / (SPAN / CHUNK)) * spanBytes;
    const int left = p.k - k;
    switch (type) {
#define LOAD(number, name) \
  case number: half.load<name>(span, c, left); break;
      LOAD(0, q4_0) LOAD(1, q4_1) LOAD(2, q5_0) LOAD(3, q5_1) LOAD(4, iq4_nl) LOAD(5, iq4_xs)
      LOAD(6, q2_k) LOAD(7, q3_k) LOAD(8, q6_k) LOAD(9, q8_0) LOAD(10, q4_k) LOAD(11, q5_k)
      default: half.load_codes(span + c * (CHUNK / 2), scales.at((row * p.k + k) >> scales.shift), levels, p.has(VALUES_BF16));
    }
  };

  FragmentC sum[MI][NI] = {};
  // One copy of the loader, which is most of the code: a chunk is loaded, the one before multiplied, and then stored.
  for (int step = part.first; step <= part.end; step++) {
    if (step < part.end) load(step);
    if (step > part.first) multiply_chunk(sum, shared + warpRow * ROW, shared + (BM + warpColumn) * ROW);
    if (step == part.end) break;
    __syncthreads(); // everybody has finished with the chunk before
#pragma unroll
    for (int i = 0; i < X_LOADS; i++) store_vec(shared + (line + ROWS_AT_ONCE * i) * ROW + 8 * unit, x[i]);
    half.store(shared + (BM + wRow) * ROW, type);
    __syncthreads();
  }

  // ---- half a tile after the other through shared memory: 32 rows of x
  float* sums = reinterpret_cast<float*>(shared);
#pragma unroll 1
  for (int first = 0; first < BM && place.row0 + first < p.m; first += WM) {
    __syncthreads();
    if (warpRow == first) {
#pragma unroll
      for (int i = 0; i < MI; i++) {
#pragma unroll
        for (int j = 0; j < NI; j++) wmma_store(sums + 16 * i * SUMS_ROW + warpColumn + 16 * j, sum[i][j], SUMS_ROW);
      }
    }
    __syncthreads();
    if (splits == 1) finish_tile<WM, BN, WN, THREADS, SUMS_ROW, 1>(p, columns, place.row0 + first, sums);
    else store_part<THREADS, WM, 1>(p, place, columns, place.row0 + first, sums, parts);
  }
}
