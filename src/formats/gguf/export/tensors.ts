import type { DType } from "../../../base/dtype.ts";
import { decodeArray } from "../../../base/element.ts";
import { FormatError, UnsupportedError } from "../../../base/errors.ts";
import { type GgmlType, ggmlType } from "../../../base/ggml.ts";
import { elementCount } from "../../../base/shape.ts";
import type { TensorInfo, WeightSource } from "../../weight-source.ts";
import type { GgufArchitecture } from "../architectures.ts";
import { quantizeGgml } from "../quantize.ts";
import { interleaveRows, type Rewrite } from "../rewrite.ts";
import type { GgufTensorToWrite } from "../write.ts";
import { ggufPlace } from "./names.ts";

/** Elements that are converted at a time; whole rows, and whole heads where rows change places. */
const pieceElements = 1 << 22;

/** Weights of transformers' old versions that follow from the config. */
const computed = /\.rotary_emb\.inv_freq$/;

interface Options {
  readonly architecture: GgufArchitecture;
  /** Of matrices; vectors and routers are F32, and rows that are no whole number of blocks F16. */
  readonly type: GgmlType;
  readonly headDim: number;
}

/** A weight as read: its dtype is checked. */
interface Source {
  readonly info: TensorInfo;
  readonly dtype: DType;
}

/**
 * The tensors of a GGUF file for the plain weights of a checkpoint, converted as they are written. Throws UnsupportedError for weights
 * that are quantized or have no place, FormatError when experts are missing.
 */
export function ggufTensors(weights: WeightSource, options: Options): GgufTensorToWrite[] {
  const places = new Map<string, (Source | undefined)[]>();
  for (const info of weights.tensors.values()) {
    if (computed.test(info.name)) continue;
    const place = ggufPlace(info.name, options.architecture);
    const dtype = info.elementType;
    if (!place || !dtype?.isFloat) {
      const problem = place ? `is of type ${info.dtype}` : "has no place in such a model";
      throw new UnsupportedError(`${info.file}: tensor "${info.name}" ${problem}, so it cannot be written as GGUF`);
    }
    const parts = places.get(place.name) ?? [];
    parts[place.expert ?? 0] = { info, dtype };
    places.set(place.name, parts);
  }
  return [...places].map(([name, parts]) => ggufTensor(weights, name, parts, options));
}

function ggufTensor(
  weights: WeightSource,
  name: string,
  parts: readonly (Source | undefined)[],
  options: Options,
): GgufTensorToWrite {
  const first = parts.find((part) => part !== undefined)!.info;
  const sources = Array.from(parts, (part) => {
    const fits = part?.info.shape.every((size, i) => size === first.shape[i]);
    if (part && fits) return part;
    throw new FormatError(first.file, `${first.file}: the experts of ${name} are not complete, or not of one shape`);
  });
  const isMerged = name.includes("_exps.");
  const type = typeOf(name, first.shape, options.type);
  return {
    name,
    type,
    shape: isMerged ? [sources.length, ...first.shape] : first.shape,
    *data() {
      for (const source of sources) yield* pieces(weights, source, type, options);
    },
  };
}

function typeOf(name: string, shape: readonly number[], wanted: GgmlType): GgmlType {
  if (shape.length < 2 || name.includes("ffn_gate_inp")) return ggmlType("F32");
  return shape.at(-1)! % wanted.blockElements === 0 ? wanted : ggmlType("F16");
}

function* pieces(
  weights: WeightSource,
  { info, dtype }: Source,
  type: GgmlType,
  { architecture, headDim }: Options,
): Generator<Uint8Array> {
  const columns = info.shape.length > 1 ? info.shape.at(-1)! : 1;
  const rows = elementCount(info.shape) / columns;
  const interleaves = architecture.interleavedRotary && /\.self_attn\.[qk]_proj\./.test(info.name);
  const unit = interleaves ? headDim : 1;
  const rowsAtOnce = Math.max(unit, Math.floor(pieceElements / columns / unit) * unit);
  const rewrite: Rewrite | undefined = interleaves ? interleaveRows(headDim, columns * dtype.bytes) : undefined;
  const plusOne = architecture.normsPlusOne && info.name.endsWith("norm.weight") ? 1 : 0;
  for (let row = 0; row < rows; row += rowsAtOnce) {
    const count = Math.min(rowsAtOnce, rows - row);
    const bytes = new Uint8Array(count * columns * dtype.bytes);
    weights.readIntoSync(info, row * columns * dtype.bytes, bytes);
    const values = decodeArray(dtype, dtype.view(rewrite ? rewrite.apply(bytes) : bytes));
    yield quantizeGgml(
      type,
      Float32Array.from(values, (value) => value + plusOne),
    );
  }
}
