// Repetition penalty: the logit l of every token that a row has seen becomes l / p where l > 0, else l * p.
//
// logits [B, V] in place, one float32 operation rounded once. penalties f32 [B]; 1 leaves a row as it is. seen u32 [B, W],
// W = ceil(V / 32): token v is bit v % 32 of word v / 32. The token that a row drew last (tokens[row], once steps[row]
// says that it has drawn one) joins its bits first, so that a step needs nothing from the host.
// Grid: (W / 8, B). Block: 256 threads, one logit each; a warp owns one word, which nobody else reads or writes.
// Traffic: 1 bit a logit, and the logits of tokens seen; a row without penalty ends after one load. Bound by latency.
// Registers: 14 to 18 (ptxas), no shared memory. Source: CTRL, arXiv 1909.05858, section 4.1.
#include "../common/launch.cuh"
#include "../common/types.cuh"

extern "C" __global__ void __launch_bounds__(256)
    KERNEL_NAME(scalar_t* logits, u32* seen, const i32* tokens, const u32* steps, const float* penalties, i64 stride,
                i32 vocab, i32 words) {
  wait_for_previous();
  allow_next();
  const i64 row = blockIdx.y;
  const float penalty = penalties[row];
  const int v = blockIdx.x * 256 + threadIdx.x;
  const int word = v / 32, lane = v % 32;
  if (penalty == 1.0f || word >= words) return; // whole warps leave
  u32 bits = seen[row * words + word];
  const i32 drawn = steps[row] > 0 ? tokens[row] : -1; // -1 also for a row that failed
  if (drawn >= 0 && drawn / 32 == word) {
    bits |= 1u << (drawn % 32);
    __syncwarp();
    if (lane == 0) seen[row * words + word] = bits;
  }
  if (v >= vocab || (bits >> lane & 1) == 0) return;
  scalar_t* logit = logits + row * stride + v;
  const float l = to_float(*logit);
  *logit = from_float<scalar_t>(l > 0.0f ? l / penalty : l * penalty);
}
