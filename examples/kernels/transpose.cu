// out[c, r] = in[r, c] for a matrix in [rows, cols], three times: what a profile shows before a GPU does.
// Grid: one block per tile of 32 x 32. Block: 32 x 8 threads, each of which moves four elements of the tile's column.
// Build: nvcc -ptx -lineinfo -arch compute_75 transpose.cu
constexpr int TILE = 32;
constexpr int STEP = 8;

// Neighbouring threads read neighbouring elements, but write elements that lie `rows` apart: 32 sectors for 128 bytes.
extern "C" __global__ void transpose_naive(float* out, const float* in, int rows, int cols) {
  const int c = blockIdx.x * TILE + threadIdx.x;
  for (int i = 0; i < TILE; i += STEP) {
    const int y = threadIdx.y + i;
    const int r = blockIdx.y * TILE + y;
    if (r < rows && c < cols) out[c * rows + r] = in[r * cols + c];
  }
}

// Through a tile in shared memory, both sides are coalesced. But a column of the tile lies in one bank.
template <int PITCH>
__device__ void transpose_tile(float* out, const float* in, int rows, int cols) {
  __shared__ float tile[TILE][PITCH];
  const int c = blockIdx.x * TILE + threadIdx.x;
  for (int i = 0; i < TILE; i += STEP) {
    const int y = threadIdx.y + i;
    const int r = blockIdx.y * TILE + y;
    if (r < rows && c < cols) tile[y][threadIdx.x] = in[r * cols + c];
  }
  __syncthreads();
  const int r = blockIdx.y * TILE + threadIdx.x;
  for (int i = 0; i < TILE; i += STEP) {
    const int y = threadIdx.y + i;
    const int column = blockIdx.x * TILE + y;
    if (r < rows && column < cols) out[column * rows + r] = tile[threadIdx.x][y];
  }
}

extern "C" __global__ void transpose_tiled(float* out, const float* in, int rows, int cols) {
  transpose_tile<TILE>(out, in, rows, cols);
}

// One unused column moves every row by a bank.
extern "C" __global__ void transpose_padded(float* out, const float* in, int rows, int cols) {
  transpose_tile<TILE + 1>(out, in, rows, cols);
}
