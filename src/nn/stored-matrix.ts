import { type DType, float32, uint8 } from "../base/dtype.ts";
import { UnsupportedError } from "../base/errors.ts";
import { ggmlBytes } from "../base/ggml.ts";
import { elementCount } from "../base/shape.ts";
import { type DevicePtr, ptrAdd } from "../driver/api.ts";
import type { Device } from "../driver/device.ts";
import type { FourBitWeight } from "../formats/stored/bitsandbytes.ts";
import type { StoredWeight } from "../formats/stored/stored-weights.ts";
import type { TensorInfo } from "../formats/weight-source.ts";
import { nestedBlockSize } from "../kernels/nf4/levels.ts";
import { expandAbsmax } from "../kernels/nf4/nf4.ts";
import { dequantizeWeight } from "../kernels/quant-matmul/quant-matmul.ts";
import { QuantizedWeight } from "../tensor/quantized-weight.ts";
import { Tensor } from "../tensor/tensor.ts";
import { type Upload, UploadGroup } from "./upload-plan.ts";

export type QuantizedStored = Extract<StoredWeight, { kind: "ggml" | "bnb4" }>;
type GgmlStored = Extract<StoredWeight, { kind: "ggml" }>;

/** A weight that is complete when its uploads have been. */
interface Planned {
  readonly weight: QuantizedWeight;
  readonly uploads: Upload[];
}

/** Neighbours that one matrix can hold: of one type, and where every block belongs to one of them. `apart`: none. */
export function groupStored<W extends StoredWeight>(weights: readonly W[], apart: boolean): W[][] {
  const groups: W[][] = [];
  for (const weight of weights) {
    const last = groups.at(-1);
    if (!apart && last && typeKey(last[0]!) === typeKey(weight) && last.every(endsWithBlock)) last.push(weight);
    else groups.push([weight]);
  }
  return groups;
}

function typeKey(weight: StoredWeight): string {
  switch (weight.kind) {
    case "plain":
      return "plain";
    case "ggml":
      return weight.type.name;
    case "bnb4":
      return `${weight.type} ${weight.blockSize} ${weight.dtype.name}`;
    case "unknown":
      return weight.name;
  }
}

function endsWithBlock(weight: StoredWeight): boolean {
  return weight.kind !== "bnb4" || elementCount(weight.shape) % weight.blockSize === 0;
}

/** One quantized matrix from weights of one group. `absmax`: nested ones are not kept. */
export function quantizedMatrix(group: readonly QuantizedStored[], device: Device, absmax?: "float32 absmax"): Planned {
  return group[0]!.kind === "ggml"
    ? ggmlMatrix(group as readonly GgmlStored[], device)
    : fourBitMatrix(group as readonly FourBitWeight[], device, absmax === undefined);
}

/** Uploads after which the values of a quantized weight lie at `out`, rounded to `dtype`; its stored form is then freed. */
export function dequantizeInto(weight: QuantizedStored, out: DevicePtr, dtype: DType, device: Device): Upload[] {
  // Any shape: as a matrix whose rows are the last dimension.
  const k = weight.shape.at(-1)!;
  const rows = elementCount(weight.shape) / k;
  const planned = quantizedMatrix([{ ...weight, shape: [rows, k] }], device);
  return whenQueued(planned.uploads, () => {
    dequantizeWeight(device.stream, planned.weight.data, { out, rows, k, dtype });
    planned.weight.dispose();
  });
}

function ggmlMatrix(group: readonly GgmlStored[], device: Device): Planned {
  const { type } = group[0]!;
  const shape = matrixShape(group);
  const blocks = Tensor.empty([ggmlBytes(type, elementCount(shape))], { dtype: uint8, device });
  const uploads = placed(
    group.map((part) => part.info),
    uint8,
    blocks,
  );
  return { weight: QuantizedWeight.ggml(shape, type, blocks), uploads };
}

/**
 * Nested absmax stays nested where one weight has it, in the blocks that products read; in a stack, whose parts have codes
 * and offsets of their own, it becomes float32 on the way.
 */
function fourBitMatrix(group: readonly FourBitWeight[], device: Device, keepNested: boolean): Planned {
  for (const { name, packed, nested } of group) {
    if (!nested || nested.blockSize === nestedBlockSize) continue;
    throw new UnsupportedError(
      `${packed.file}: ${name} has a nested blocksize of ${nested.blockSize}; llcuda reads ${nestedBlockSize}, which bitsandbytes writes`,
    );
  }
  const { type, blockSize, nested, dtype: valueDType } = group[0]!;
  const shape = matrixShape(group);
  const elements = elementCount(shape);
  const packed = Tensor.empty([Math.ceil(elements / 2)], { dtype: uint8, device });
  const uploads = placed(
    group.map((part) => part.packed),
    uint8,
    packed,
  );
  const blocks = Math.ceil(elements / blockSize);
  if (keepNested && group.length === 1 && nested && blockSize === 64 && shape[1]! % 256 === 0) {
    const absmax = Tensor.empty([blocks], { dtype: uint8, device });
    const own = {
      absmax: Tensor.empty(nested.absmax.shape, { dtype: float32, device }),
      code: Tensor.empty([256], { dtype: float32, device }),
      offset: nested.offset,
    };
    uploads.push(...placed([group[0]!.absmax], uint8, absmax));
    uploads.push(...placed([nested.absmax], float32, own.absmax), ...placed([nested.code], float32, own.code));
    return {
      weight: QuantizedWeight.fourBit(shape, { type, packed, absmax, blockSize, nested: own, valueDType }),
      uploads,
    };
  }
  const absmax = Tensor.empty([blocks], { dtype: float32, device });
  let first = 0;
  for (const part of group) {
    if (part.nested) uploads.push(...expandInto(part, ptrAdd(absmax.ptr, first * 4), device));
    else uploads.push(...placed([part.absmax], float32, absmax, first));
    first += Math.ceil(elementCount(part.shape) / blockSize);
  }
  return { weight: QuantizedWeight.fourBit(shape, { type, packed, absmax, blockSize, valueDType }), uploads };
}

/** Uploads after which a weight's nested absmax lies at `out` as float32; what it is made of is in memory until then. */
function expandInto(part: FourBitWeight, out: DevicePtr, device: Device): Upload[] {
  const { absmax, code, offset } = part.nested!;
  const count = part.absmax.byteLength;
  const bytesAt = code.byteLength + absmax.byteLength;
  const parts = new UploadGroup(
    () => Tensor.empty([bytesAt + count], { dtype: uint8, device, tag: "nested absmax" }),
    ({ ptr }) => {
      const nested = { code: ptr, absmax: ptrAdd(ptr, code.byteLength), offset };
      expandAbsmax(device.stream, { out, bytes: ptrAdd(ptr, bytesAt), nested, count });
    },
  );
  parts.add(code, uint8, 0);
  parts.add(absmax, uint8, code.byteLength);
  parts.add(part.absmax, uint8, bytesAt);
  return parts.uploads;
}

/** One behind the other in `target`, from element `first` on. */
function placed(infos: readonly TensorInfo[], from: DType, target: Tensor, first = 0): Upload[] {
  let targetOffset = first;
  return infos.map((info) => {
    const upload = { info, from, target, targetOffset };
    targetOffset += info.byteLength / from.bytes;
    return upload;
  });
}

/** The same uploads; `finish` runs, in stream order, when the last of their bytes has been queued. */
function whenQueued(uploads: readonly Upload[], finish: () => void): Upload[] {
  let missing = uploads.reduce((sum, upload) => sum + upload.info.byteLength, 0);
  return uploads.map((upload) => ({
    ...upload,
    queued: (bytes: number) => {
      upload.queued?.(bytes);
      missing -= bytes;
      if (missing === 0) finish();
    },
  }));
}

/** The rows of all. */
export function matrixShape(group: readonly StoredWeight[]): [number, number] {
  const rows = group.reduce((sum, part) => sum + part.shape[0]!, 0);
  return [rows, group[0]!.shape[1]!];
}
