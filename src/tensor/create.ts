import { type DType, type DTypeLike, dtype, float32, int32 } from "../base/dtype.ts";
import { ArgumentError, ShapeError } from "../base/errors.ts";
import { elementCount, formatShape, type Shape } from "../base/shape.ts";
import type { Device } from "../driver/device.ts";
import type { DeviceBuffer } from "../driver/memory.ts";
import { openDevice } from "../driver/open.ts";
import { arange as launchArange } from "../kernels/fill/arange.ts";
import { type HostInput, HostTensor } from "./host-tensor.ts";
import { checkShape } from "./layout.ts";
import { fillContiguous } from "./ops/copy.ts";
import { type Distribution, fillRandom } from "./ops/random.ts";
import { Storage } from "./storage.ts";
import { Tensor } from "./tensor.ts";
import { upload } from "./transfer.ts";
import { contiguousLayout } from "./views.ts";

export interface TensorOptions {
  readonly dtype?: DTypeLike | string | undefined;
  /** A device, or the name of one such as `cuda:1`; by default LLCUDA_DEVICE, else the first GPU, else `sim`. */
  readonly device?: Device | string | undefined;
  /** Names the owner in out-of-memory reports. */
  readonly tag?: string | undefined;
}

function deviceOf(options: TensorOptions): Device {
  return typeof options.device === "object" ? options.device : openDevice(options.device);
}

/** Uninitialised and contiguous; what every operation puts its result in. */
export function allocate(device: Device, shape: Shape, type: DType, tag?: string): Tensor {
  const storage = Storage.allocate(device, elementCount(shape) * type.bytes, tag);
  return new Tensor(storage, contiguousLayout(shape), type);
}

/** Allocates a result and lets `write` fill it; a result whose filling fails is freed. */
export function produce(device: Device, shape: Shape, type: DType, write: (out: Tensor) => void, tag?: string): Tensor {
  const out = allocate(device, shape, type, tag);
  try {
    write(out);
    return out;
  } catch (error) {
    out.dispose();
    throw error;
  }
}

export function empty(shape: Shape, options: TensorOptions): Tensor {
  checkShape("Tensor.empty", shape);
  return allocate(deviceOf(options), [...shape], dtype(options.dtype ?? float32), options.tag);
}

export function from(input: HostInput, options: TensorOptions & { shape?: Shape }): Tensor {
  const host = HostTensor.from(input, {
    ...(options.shape && { shape: options.shape }),
    ...(options.dtype !== undefined && { dtype: options.dtype }),
  });
  const write = (out: Tensor) => upload(out.device, out.ptr, host.data);
  return produce(deviceOf(options), [...host.shape], host.dtype, write, options.tag);
}

export function full(shape: Shape, value: number | bigint, options: TensorOptions): Tensor {
  checkShape("Tensor.full", shape);
  const write = (out: Tensor) => fillContiguous(out, value);
  return produce(deviceOf(options), [...shape], dtype(options.dtype ?? float32), write, options.tag);
}

export function arange(start: number, end: number | undefined, step = 1, options: TensorOptions): Tensor {
  const [from, to] = end === undefined ? [0, start] : [start, end];
  if (!Number.isFinite(from) || !Number.isFinite(to) || !Number.isFinite(step) || step === 0) {
    throw new ArgumentError(`Tensor.arange: start ${from}, end ${to} and step ${step} must be finite, and step not 0`);
  }
  const count = Math.max(0, Math.ceil((to - from) / step));
  const whole = Number.isInteger(from) && Number.isInteger(step);
  const type = dtype(options.dtype ?? (whole && Number.isInteger(to) ? int32 : float32));
  if (!type.isFloat && !whole) {
    throw new ArgumentError(`Tensor.arange: start ${from} and step ${step} must be whole numbers for ${type.name}`);
  }
  const write = (out: Tensor) =>
    launchArange(out.device.stream, { out: out.ptr, start: from, step, count, dtype: type });
  return produce(deviceOf(options), [count], type, write, options.tag);
}

export function random(distribution: Distribution, shape: Shape, options: TensorOptions & { seed?: number }): Tensor {
  checkShape("Tensor.rand", shape);
  const write = (out: Tensor) => fillRandom(out, distribution, options.seed ?? 0);
  return produce(deviceOf(options), [...shape], dtype(options.dtype ?? float32), write, options.tag);
}

export function wrap(device: Device, buffer: DeviceBuffer, shape: Shape, type: DType): Tensor {
  checkShape("Tensor.wrap", shape);
  const bytes = elementCount(shape) * type.bytes;
  if (bytes > buffer.bytes) {
    throw new ShapeError(
      `Tensor.wrap: ${formatShape(shape)} ${type.name} takes ${bytes} bytes, but the buffer has ${buffer.bytes}`,
    );
  }
  return new Tensor(new Storage(device, buffer), contiguousLayout([...shape]), type);
}
