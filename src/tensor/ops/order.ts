import { int32 } from "../../base/dtype.ts";
import { ArgumentError, ShapeError, UnsupportedError } from "../../base/errors.ts";
import { formatShape } from "../../base/shape.ts";
import { nullPtr } from "../../driver/api.ts";
import { argmaxWorkspaceBytes, argmax as launchArgmax } from "../../kernels/argmax/argmax.ts";
import { topk as launchTopk, topkLimit, topkWorkspaceBytes } from "../../kernels/topk/topk.ts";
import { allocate, produce } from "../create.ts";
import type { Tensor } from "../tensor.ts";
import { floatOnly } from "./check.ts";
import { reshape } from "./copy.ts";
import { moveBack, rowsAlong } from "./rows.ts";

export function argmax(x: Tensor, dim: number | undefined, keepDim: boolean): Tensor {
  if (dim === undefined) {
    using flat = reshape(x, [-1]);
    using out = argmax(flat, 0, false);
    return reshape(out, keepDim ? x.shape.map(() => 1) : []);
  }
  const dtype = floatOnly("argmax", x);
  using from = rowsAlong("argmax", x, dim);
  const { rows, cols } = from;
  if (cols === 0) {
    throw new ShapeError(`argmax: dimension ${dim} of ${formatShape(x.shape)} is empty and has no largest element`);
  }
  const shape = keepDim ? x.shape.map((n, i) => (i === from.dim ? 1 : n)) : x.shape.toSpliced(from.dim, 1);
  using workspace = x.device.allocate(argmaxWorkspaceBytes(rows, cols), { tag: "argmax workspace" });
  return produce(x.device, shape, int32, (out) =>
    launchArgmax(x.device.stream, { out: out.ptr, x: from.matrix.ptr, workspace: workspace.ptr, rows, cols, dtype }),
  );
}

export function topk(x: Tensor, k: number, dim: number): { values: Tensor; indices: Tensor } {
  const dtype = floatOnly("topk", x);
  using from = rowsAlong("topk", x, dim);
  const { rows, cols, matrix } = from;
  if (!Number.isInteger(k) || k < 0) throw new ArgumentError(`topk: k must be a whole number, 0 or more, got ${k}`);
  if (k > cols) {
    throw new ShapeError(`topk: k = ${k} exceeds the ${cols} elements of dimension ${dim} of ${formatShape(x.shape)}`);
  }
  if (k > topkLimit) throw new UnsupportedError(`topk: k may be at most ${topkLimit}, got ${k}`);
  const shape = x.rank === 0 ? [] : matrix.shape.with(-1, k);
  using values = allocate(x.device, shape, dtype);
  using indices = allocate(x.device, shape, int32);
  const workspaceBytes = topkWorkspaceBytes(rows, cols, k, x.device.attributes.multiprocessors);
  using workspace = x.device.allocate(workspaceBytes, { tag: "topk workspace" });
  launchTopk(x.device.stream, {
    values: values.ptr,
    indices: indices.ptr,
    x: matrix.ptr,
    workspace: workspaceBytes === 0 ? nullPtr : workspace.ptr,
    rows,
    cols,
    k,
    dtype,
  });
  return { values: moveBack(values, from.dim), indices: moveBack(indices, from.dim) };
}
