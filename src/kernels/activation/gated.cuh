// act(gate) * up. Both activations are x * sigmoid(z): SiLU with z = x; GELU because (1 + tanh u) / 2 = sigmoid(2u), so with
// z = 2 sqrt(2/pi) (x + 0.044715 x³). Written x / (1 + e^-z), which is 0 for large -z and x for large z without a branch.
#pragma once
#include "../common/types.cuh"

inline constexpr i32 GELU = 1; // `gateKinds` in activation.ts

__device__ __forceinline__ float gated(float g, float u, i32 kind) {
  // 1.5957691 = 2 sqrt(2/pi)
  const float z = kind == GELU ? 1.5957691216057308f * (g + 0.044715f * g * g * g) : g;
  return g / (1.0f + expf(-z)) * u;
}
