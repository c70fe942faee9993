import { type DType, type DTypeLike, dtype as resolveDType } from "../../base/dtype.ts";
import { ShapeError, StateError } from "../../base/errors.ts";
import { contiguousStrides, formatShape, type Shape } from "../../base/shape.ts";
import { Device } from "../../driver/device.ts";
import { openDevice } from "../../driver/open.ts";
import { copy } from "../../kernels/copy/copy.ts";
import { fill } from "../../kernels/fill/fill.ts";
import { allocate, produce } from "../create.ts";
import { HostTensor } from "../host-tensor.ts";
import { expandStrides, overlapsItself } from "../layout.ts";
import { Tensor } from "../tensor.ts";
import { download } from "../transfer.ts";
import { tryView, view } from "../views.ts";
import { describe } from "./check.ts";

export function clone(x: Tensor): Tensor {
  return fresh(x, x.dtype);
}

export function contiguous(x: Tensor): Tensor {
  return x.isContiguous ? x.alias(x) : fresh(x, x.dtype);
}

/** In another dtype; shares memory when it has that dtype already. */
export function cast(x: Tensor, dtype: DType): Tensor {
  return x.dtype === dtype ? x.alias(x) : fresh(x, dtype);
}

/** A contiguous copy in memory of its own. */
export function fresh(x: Tensor, dtype: DType): Tensor {
  return produce(x.device, x.shape, dtype, (out) => write(out, x, x.strides));
}

export function to(x: Tensor, target: DTypeLike | Device | string): Tensor {
  if (target instanceof Device) return toDevice(x, target);
  if (typeof target === "string" && /^(cuda|sim)\b/.test(target)) return toDevice(x, openDevice(target));
  return cast(x, resolveDType(target));
}

function toDevice(x: Tensor, device: Device): Tensor {
  if (device === x.device) return x.alias(x);
  using from = contiguous(x);
  return produce(device, x.shape, x.dtype, (out) => {
    if (x.size === 0) return;
    // The copy runs in the target's order, after what the source's stream has yet to do.
    using ready = x.device.createEvent();
    x.device.stream.record(ready);
    device.stream.wait(ready);
    device.stream.copyFromPeer(out.ptr, from.ptr, x.device, x.sizeBytes);
    from.storage.buffer.recordStream(device.stream);
  });
}

export function reshape(x: Tensor, shape: Shape): Tensor {
  const layout = tryView("reshape", x, shape);
  if (layout) return x.alias(layout);
  using flat = contiguous(x);
  return flat.alias(view(flat, shape));
}

export function bitcast(x: Tensor, dtype: DType): Tensor {
  const rowBytes = (x.shape.at(-1) ?? 0) * x.dtype.bytes;
  const bytesBefore = x.offset * x.dtype.bytes;
  if (x.rank === 0 || !x.isContiguous || rowBytes % dtype.bytes !== 0 || bytesBefore % dtype.bytes !== 0) {
    throw new ShapeError(
      `bitcast: ${describe(x)} cannot be read as ${dtype.name}; it must be contiguous, begin and end its rows at a multiple of ${dtype.bytes} bytes`,
    );
  }
  const shape = x.shape.with(-1, rowBytes / dtype.bytes);
  const layout = { shape, strides: contiguousStrides(shape), offset: bytesBefore / dtype.bytes };
  return new Tensor(x.storage.retain(), layout, dtype);
}

/** out[...] = source[...], broadcast and converted. */
export function copyInto(out: Tensor, source: Tensor): void {
  writable("copy_", out);
  const strides = expandStrides(`copy_ into ${describe(out)}`, source, out.shape);
  if (out.device !== source.device) {
    using here = toDevice(source, out.device);
    write(out, here, expandStrides("copy_", here, out.shape));
  } else if (out.storage === source.storage && !sameElements(out, source)) {
    // The memory may overlap in another order: read all of it before anything is written.
    using apart = clone(source);
    write(out, apart, expandStrides("copy_", apart, out.shape));
  } else {
    write(out, source, strides);
  }
}

/** Throws where several elements of a tensor that is to be changed share memory. */
export function writable(op: string, x: Tensor): void {
  if (!overlapsItself(x)) return;
  throw new StateError(
    `${op}: ${describe(x)} with strides ${formatShape(x.strides)} is expanded, so that several of its elements are one in memory; clone() it first`,
  );
}

/** True when both read the same places in the same order. */
export function sameElements(a: Tensor, b: Tensor): boolean {
  return (
    a.offset === b.offset &&
    formatShape(a.shape) === formatShape(b.shape) &&
    formatShape(a.strides) === formatShape(b.strides)
  );
}

/** out[i…] = source[i…], the source's strides being given for out's shape. */
function write(out: Tensor, source: Tensor, strides: readonly number[]): void {
  copy(out.device.stream, {
    out: out.ptr,
    outDType: out.dtype,
    outStrides: out.strides,
    x: source.ptr,
    dtype: source.dtype,
    strides,
    shape: out.shape,
  });
}

export function fillContiguous(out: Tensor, value: number | bigint): void {
  fill(out.device.stream, { out: out.ptr, value, count: out.size, dtype: out.dtype });
}

export function fillInto(out: Tensor, value: number | bigint): void {
  if (out.isContiguous) {
    fillContiguous(out, value);
    return;
  }
  writable("fill_", out);
  using one = allocate(out.device, [], out.dtype);
  fillContiguous(one, value);
  copyInto(out, one);
}

export function cpu(x: Tensor): HostTensor {
  const data = x.dtype.array(x.size);
  if (x.size > 0) {
    using from = contiguous(x);
    download(x.device, data, from.ptr);
  }
  return new HostTensor(data, x.shape, x.dtype);
}

export function item(x: Tensor): number {
  if (x.size !== 1) throw new ShapeError(`item: needs a tensor of one element, got ${describe(x)}`);
  const data = x.dtype.array(1);
  download(x.device, data, x.ptr);
  return new HostTensor(data, [], x.dtype).item();
}
