// What every matmul kernel shares: its parameters, the epilogue, and the walk over output tiles.
//
//   D[M, N] = alpha * A[M, K] · B[K, N]  + beta * D + bias[N] + residual[M, N]
//   gated:  D[M, N] = activation(alpha * A·Bg + bias[n]) * (alpha * A·Bu + bias[N + n]),  Bg and Bu the two halves of B
//
// All kernels take the same parameters in the same order (matmulArgs in specs.ts); what does not change the inner loop
// is a bit of `flags` and not a variant. Sums and epilogue are float32, rounded once at the store.
#pragma once
#include "../common/types.cuh"

// The parameter list, to be followed by MATMUL_PROBLEM in the body. Strides and leading dimensions in elements.
#define MATMUL_PARAMETERS                                                                                            \
  void *out, const scalar_t *a, const scalar_t *b, const scalar_t *bias, const void *residual, int m, int n, int k,  \
      u32 flags, i64 lda, i64 ldb, i64 ldd, i64 ldr, i64 strideA, i64 strideB, i64 strideD, i64 strideR, float alpha, \
      float beta
#define MATMUL_PROBLEM                                                                                               \
  Problem p = {out, a, b, bias, residual, m, n, k, flags, lda, ldb, ldd, ldr, alpha, beta, nullptr, 1};              \
  p.select_batch(blockIdx.z, strideA, strideB, strideD, strideR);

enum Flags : u32 {
  TRANSPOSE_A = 1,  // A is stored [K, M]
  TRANSPOSE_B = 2,  // B is stored [N, K]
  OUT_F32 = 4,      // D and residual are float32 while A and B are not
  VECTOR_A = 8,     // every row of A starts on 16 bytes
  VECTOR_B = 16,    // every row of B starts on 16 bytes
  GATE_SILU = 32,
  GATE_GELU = 64,   // the tanh form
  GATED = GATE_SILU | GATE_GELU,
  PAIRED_D = 128,   // columns 2i and 2i + 1 of D may be stored together
};

struct Problem {
  void* out;
  const scalar_t* a;
  const scalar_t* b;
  const scalar_t* bias;
  const void* residual;
  int m, n, k;
  u32 flags;
  i64 lda, ldb, ldd, ldr;
  float alpha, beta;
  // Where the rows lie, when not one after another: row i of D at order[i], row i of A at order[i] / share. Kernels that
  // set it to null compile to code without it.
  const i32* order;
  int share;

  __device__ __forceinline__ bool has(u32 flag) const { return (flags & flag) != 0; }

  // Past the last row: any row that exists.
  __device__ __forceinline__ int row_in_a(int row) const { return order ? order[min(row, m - 1)] / share : row; }
  __device__ __forceinline__ int row_in_d(int row) const { return order ? order[min(row, m - 1)] : row; }

  __device__ __forceinline__ void select_batch(u32 batch, i64 strideA, i64 strideB, i64 strideD, i64 strideR) {
    const int outBytes = has(OUT_F32) ? 4 : int(sizeof(scalar_t));
    a += batch * strideA;
    b += batch * strideB;
    out = (char*)out + batch * strideD * outBytes;
    if (residual) residual = (const char*)residual + batch * strideR * outBytes;
  }

  __device__ __forceinline__ float load_out(const void* base, i64 i) const {
    return has(OUT_F32) ? ((const float*)base)[i] : to_float(((const scalar_t*)base)[i]);
  }

  __device__ __forceinline__ void store_out(i64 i, float value) const {
    if (has(OUT_F32)) ((float*)out)[i] = value;
    else ((scalar_t*)out)[i] = from_float<scalar_t>(value);
  }

  // The value of one element from its sum; `row` is that of D (row_in_d), column < n.
  __device__ __forceinline__ float epilogue(int row, int column, float sum) const {
    float value = alpha * sum;
    if (beta != 0.0f) value += beta * load_out(out, row * ldd + column);
    if (bias) value += to_float(bias[column]);
    if (residual) value += load_out(residual, row * ldr + column);
    return value;
  }

  // The same for a gated product, from the sums of its two columns.
  __device__ __forceinline__ float epilogue_gated(int column, float gateSum, float upSum) const {
    float gate = alpha * gateSum, up = alpha * upSum;
    if (bias) {
      gate += to_float(bias[column]);
      up += to_float(bias[i64(n) + column]);
    }
    return activate(gate) * up;
  }

  __device__ __forceinline__ void finish(int row, int column, float sum) const {
    const int line = row_in_d(row);
    store_out(line * ldd + column, epilogue(line, column, sum));
  }
  __device__ __forceinline__ void finish_gated(int row, int column, float gateSum, float upSum) const {
    store_out(row_in_d(row) * ldd + column, epilogue_gated(column, gateSum, upSum));
  }

  // Stores two neighbours of row `row` of D, `column` even, where they are inside the matrix.
  __device__ __forceinline__ void store_pair(int row, int column, float first, float second) const {
    const i64 i = row * ldd + column;
    if (has(PAIRED_D) && column + 1 < n) {
      if (has(OUT_F32)) *(float2*)((float*)out + i) = make_float2(first, second);
      else *(Vec<scalar_t, 2>*)((scalar_t*)out + i) = {{from_float<scalar_t>(first), from_float<scalar_t>(second)}};
    } else {
      store_out(i, first);
      if (column + 1 < n) store_out(i + 1, second);
    }
  }

  __device__ __forceinline__ float activate(float x) const {
    if (has(GATE_SILU)) return x / (1.0f + expf(-x));
    // 0.5 x (1 + tanh(u)) = x / (1 + exp(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3)
    const float u = 0.7978845608028654f * (x + 0.044715f * x * x * x);
    return x / (1.0f + expf(-2.0f * u));
  }
};

// Blocks are numbered along grid.x. Blocks that run at the same time should share operands in L2, so the numbering walks
// down GROUP tile rows before it moves one tile column to the right:
//
//     0  3  6          With some 130 blocks at once this keeps a patch of about 8 x 16 tiles in flight, which reads
//     1  4  7          8 + 16 tile strips instead of the 1 + 128 that a plain row-by-row walk would.
//     2  5  8
struct TileIndex {
  int row, column;
};
__device__ __forceinline__ TileIndex tile_of_block(int tileRows, int tileColumns) {
  constexpr int GROUP = 8;
  const int perGroup = GROUP * tileColumns;
  const int first = int(blockIdx.x) / perGroup * GROUP;
  const int height = min(GROUP, tileRows - first);
  const int inGroup = int(blockIdx.x) % perGroup;
  return {first + inGroup % height, inGroup / height};
}

// Which column of D, and which row (or column) of the weight, stands behind column c of a tile of BN columns whose
// warps own WN columns each. Ungated: the next one. Gated: the left half of every warp's columns are gates and the
// right half the ups of the same features, so that both sums of an element meet in one thread.
template <int BN, int WN>
struct Columns {
  int first; // of this tile, in D
  int n;
  bool gated;

  __device__ __forceinline__ Columns(const Problem& p, int tile)
      : first(tile * (p.has(GATED) ? BN / 2 : BN)), n(p.n), gated(p.has(GATED)) {}
  __device__ __forceinline__ int in_d(int c) const {
    return first + (gated ? c / WN * (WN / 2) + c % (WN / 2) : c);
  }
  __device__ __forceinline__ i64 in_b(int c) const {
    return in_d(c) + (gated && c % WN >= WN / 2 ? i64(n) : 0);
  }
};

__device__ __forceinline__ int tiles_of(int size, int tile) { return (size + tile - 1) / tile; }

// The epilogue of a tile whose sums lie in shared memory, SUMS_ROW floats a row, once for each of PARTS parts of K, which
// are added in order. A thread keeps to two neighbouring columns of D and walks down their rows, a warp storing whole
// lines. Not unrolled: unrolled over the sums of a thread, this was most of what the driver had to compile.
template <int BM, int BN, int WN, int THREADS, int SUMS_ROW, int PARTS>
__device__ __forceinline__ void finish_tile(const Problem& p, const Columns<BN, WN>& columns, int row0,
                                            const float* sums) {
  static_assert(THREADS % (BN / 2) == 0, "a thread keeps its columns");
  const int pairs = columns.gated ? BN / 4 : BN / 2;
  const int c = int(threadIdx.x) % pairs * 2;
  const int column = columns.first + c;
  if (column >= p.n) return;
  const bool second = column + 1 < p.n;
  const int rows = min(BM, p.m - row0);
  sums += columns.gated ? c / (WN / 2) * WN + c % (WN / 2) : c;
#pragma unroll 1
  for (int row = int(threadIdx.x) / pairs; row < rows; row += THREADS / pairs) {
    const int line = p.row_in_d(row0 + row);
    float2 left = {0.0f, 0.0f}, right = {0.0f, 0.0f}; // gated: of the gates, and of the ups
#pragma unroll
    for (int part = 0; part < PARTS; part++) {
      const float* at = sums + (part * BM + row) * SUMS_ROW;
      const float2 x = *(const float2*)at;
      left.x += x.x;
      left.y += x.y;
      if (!columns.gated) continue;
      const float2 y = *(const float2*)(at + WN / 2);
      right.x += y.x;
      right.y += y.y;
    }
    float value[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const float first = i ? left.y : left.x;
      if (i && !second) value[i] = 0.0f;
      else if (columns.gated) value[i] = p.epilogue_gated(column + i, first, i ? right.y : right.x);
      else value[i] = p.epilogue(line, column + i, first);
    }
    p.store_pair(line, column, value[0], value[1]);
  }
}
