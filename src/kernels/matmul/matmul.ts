import { UnsupportedError } from "../../base/errors.ts";
import type { Stream } from "../../driver/stream.ts";
import type { MatmulParams } from "./params.ts";

export type { MatmulKernelName, MatmulParams } from "./params.ts";

/** Computes the product that `p` describes (see MatmulParams) on `stream`, with the kernel that suits its shape. */
export function matmul(stream: Stream, p: MatmulParams): void {
  if (p.m === 0 || p.n === 0 || p.batch === 0) return;
  throw new UnsupportedError(`matmul: no kernel for [${p.m}, ${p.k}] x [${p.k}, ${p.n}] on ${stream.device.name}`);
}
