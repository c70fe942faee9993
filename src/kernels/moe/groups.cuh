// How the kernels of a mixture of experts speak of its rows.
//
//   slot    one of the k choices of one token: slot = token * k + choice, S = T * k of them
//   order   [S] the slots, those of one expert together and by number: the rows of expert 0, of expert 1, ...
//   group   up to `rows` neighbours in `order` that one expert multiplies: what a product kernel takes at a time
//
// The table of groups is int4: {how many, 0, 0, 0}, then {expert, first place in order, rows, 0} for each. Only experts
// that were chosen have groups, so a product reads no other expert's weights, and the grid of a launch, which a captured
// graph cannot change, needs only an upper bound of their number (maxGroups in plan.ts).
#pragma once
#include "../common/types.cuh"

struct Group {
  int expert, first, rows;
};

__device__ __forceinline__ int group_count(const i32* table) { return table[0]; }

__device__ __forceinline__ Group load_group(const i32* table, int i) {
  const int4 raw = reinterpret_cast<const int4*>(table)[1 + i];
  return {raw.x, raw.y, raw.z};
}

__device__ __forceinline__ void store_group(i32* table, int i, Group g) {
  reinterpret_cast<int4*>(table)[1 + i] = make_int4(g.expert, g.first, g.rows, 0);
}

__device__ __forceinline__ void store_group_count(i32* table, int count) {
  *reinterpret_cast<int4*>(table) = make_int4(count, 0, 0, 0);
}
