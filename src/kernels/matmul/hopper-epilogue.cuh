// How hopper.cu finishes and stores a tile whose sums lie in a warpgroup's registers.
#pragma once
#include "hopper-tile.cuh"

// sums[0 .. COUNT): this thread's part of 16 rows x 2 COUNT columns of D, from column `col` on; see wgmma().
template <int COUNT>
__device__ __forceinline__ void add_bias(const Problem& p, const scalar_t* bias, float* sums, int col, int lane) {
#pragma unroll
  for (int j = 0; j < COUNT / 4; j++) {
    int c = col + 8 * j + 2 * (lane % 4);
    float left = c < p.n ? to_float(bias[c]) : 0.0f;
    float right = c + 1 < p.n ? to_float(bias[c + 1]) : 0.0f;
    sums[4 * j] += left;
    sums[4 * j + 1] += right;
    sums[4 * j + 2] += left;
    sums[4 * j + 3] += right;
  }
}

__device__ __forceinline__ float activation(i32 gate, float x) {
  // silu(x) = x / (1 + exp(-x)); gelu(x) = x / (1 + exp(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3), since
  // (1 + tanh u) / 2 = 1 / (1 + exp(-2u)).
  float t = gate == 1 ? x : 1.5957691216057308f * (x + 0.044715f * x * x * x);
  return x / (1.0f + __expf(-t));
}

// Fast path. The warp writes a box of 16 rows x 64 columns to shared memory as 16-bit, swizzled as the copy engine expects
// it: 16-byte piece q of row r lies at piece q ^ (r % 8), so that eight rows of one piece fall into different banks.
__device__ __forceinline__ void stage_scalars(const float* sums, u32 buffer, int lane) {
  int row = lane % 16;  // store_matrices: lanes 0-15 address rows of the left 8 columns, 16-31 of the right
#pragma unroll
  for (int q = 0; q < 4; q++) {
    const float* s = sums + 8 * q;
    u32 piece = (2 * q + lane / 16) ^ (row % 8);
    store_matrices(buffer + row * 128 + piece * 16, pack<scalar_t>(s[0], s[1]), pack<scalar_t>(s[2], s[3]),
                   pack<scalar_t>(s[4], s[5]), pack<scalar_t>(s[6], s[7]));
  }
}

// General path. The same box as float32, 256 bytes a row (both buffers together); columns are swizzled by eights.
__device__ __forceinline__ u32 float_offset(int row, int col) { return (row * 64 + (col ^ ((row % 8) * 8))) * 4; }

__device__ __forceinline__ void stage_floats(const float* sums, u32 buffer, int lane) {
#pragma unroll
  for (int j = 0; j < 8; j++) {
    int row = lane / 4, col = 8 * j + 2 * (lane % 4);
    store_shared(buffer + float_offset(row, col), sums[4 * j], sums[4 * j + 1]);
    store_shared(buffer + float_offset(row + 8, col), sums[4 * j + 2], sums[4 * j + 3]);
  }
}

// Writes the staged box row by row: a lane has two columns, so that a warp's access is one contiguous 128 or 256 bytes.
template <typename T>
__device__ __forceinline__ void flush_floats(const Problem& p, u32 buffer, int row0, int col0, int lane) {
  const T* residual = static_cast<const T*>(p.residual);
  T* out = static_cast<T*>(p.out);
  int col = col0 + 2 * lane;
  bool left = col < p.n, right = col + 1 < p.n;
  // Rows start at multiples of a pair, so that one access moves both columns.
  bool pairs = right && (p.ldd | (residual ? p.ldr : 0)) % 2 == 0 &&
               (reinterpret_cast<u64>(out) | reinterpret_cast<u64>(residual)) % (2 * sizeof(T)) == 0;
#pragma unroll 1
  for (int half = 0; half < 2; half++) {
    i64 first = row0 + 8 * half;
    int rows = int(min(i64(8), p.m - first));
    // All the residual's loads before the first store, which might be to the same memory: `out` may be the residual.
    float2 sums[8];
#pragma unroll
    for (int r = 0; r < 8; r++) {
      sums[r] = load_shared(buffer + float_offset(8 * half + r, 2 * lane));
      if (!residual || r >= rows) continue;
      const T* from = residual + (first + r) * p.ldr + col;
      if (pairs) {
        Vec<T, 2> v = *reinterpret_cast<const Vec<T, 2>*>(from);
        sums[r].x += to_float(v[0]);
        sums[r].y += to_float(v[1]);
      } else {
        if (left) sums[r].x += to_float(from[0]);
        if (right) sums[r].y += to_float(from[1]);
      }
    }
#pragma unroll
    for (int r = 0; r < 8; r++) {
      if (r >= rows) continue;
      T* to = out + (first + r) * p.ldd + col;
      Vec<T, 2> v;
      v[0] = from_float<T>(sums[r].x);
      v[1] = from_float<T>(sums[r].y);
      if (pairs) {
        *reinterpret_cast<Vec<T, 2>*>(to) = v;
      } else {
        if (left) to[0] = v[0];
        if (right) to[1] = v[1];
      }
    }
  }
}

// Stores a warp's 16 rows of D from (row, col) on, `width` of the COLS columns that `sums` has room for, 64 at a time.
// `boxes` counts the boxes that this warp has staged, for the choice of the buffer.
__device__ __forceinline__ void store_tile(const Problem& p, const TensorMap* map_d, const float* sums, u32 staging, int& boxes,
                                           int row, int col, int width, int lane) {
  if (row >= p.m) return;
  // The loop is not unrolled, to keep the code small; registers need constant indices, hence the inner loops.
#pragma unroll 1
  for (int box = 0; box < width / 64 && col + 64 * box < p.n; box++) {
    if (p.store == kBulk) {
      u32 buffer = staging + (boxes++ % 2) * STAGING_BOX_BYTES;
      if (lane == 0) store_wait_read<1>();  // the store before may go on reading the other buffer
      __syncwarp();
#pragma unroll
      for (int b = 0; b < COLS / 64; b++) {
        if (b == box) stage_scalars(sums + 32 * b, buffer, lane);
      }
      fence_for_bulk_copy();
      __syncwarp();
      if (lane == 0) {
        store_box(map_d, row, col + 64 * box, buffer);
        store_commit();
      }
    } else {
#pragma unroll
      for (int b = 0; b < COLS / 64; b++) {
        if (b == box) stage_floats(sums + 32 * b, staging, lane);
      }
      __syncwarp();
      if (p.store == kFloat) flush_floats<float>(p, staging, row, col + 64 * box, lane);
      else flush_floats<scalar_t>(p, staging, row, col + 64 * box, lane);
      __syncwarp();
    }
  }
}
