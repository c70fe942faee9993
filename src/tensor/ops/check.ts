import type { DType } from "../../base/dtype.ts";
import { ArgumentError, DTypeError } from "../../base/errors.ts";
import { formatShape } from "../../base/shape.ts";
import type { Tensor } from "../tensor.ts";

/** `[2, 3] float16`, as operands appear in messages. */
export function describe(tensor: Tensor): string {
  return `${formatShape(tensor.shape)} ${tensor.dtype.name}`;
}

export function sameDevice(op: string, a: Tensor, b: Tensor): void {
  if (a.device === b.device) return;
  throw new ArgumentError(
    `${op}: operands ${describe(a)} on ${a.device.name} and ${describe(b)} on ${b.device.name} must be on one device; move one with to(device)`,
  );
}

export function floatOnly(op: string, x: Tensor): DType {
  if (x.dtype.isFloat) return x.dtype;
  throw new DTypeError(`${op}: needs float32, float16 or bfloat16, got ${describe(x)}; cast it with to("float32")`);
}

export function sameDType(op: string, a: Tensor, b: Tensor): void {
  if (a.dtype === b.dtype) return;
  throw new DTypeError(
    `${op}: operands ${describe(a)} and ${describe(b)} must have one dtype; cast one with to("${a.dtype.name}")`,
  );
}
