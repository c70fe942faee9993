import type { Shape } from "../../src/base/shape.ts";

/** Every index of a shape, in row-major order. */
export function indices(shape: Shape): number[][] {
  let all: number[][] = [[]];
  for (const size of shape) all = all.flatMap((index) => Array.from({ length: size }, (_, i) => [...index, i]));
  return all;
}
