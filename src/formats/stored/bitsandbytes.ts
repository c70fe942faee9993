import { type DType, dtypeFromSafetensors, dtype as dtypeOf } from "../../base/dtype.ts";
import { FormatError, UnsupportedError } from "../../base/errors.ts";
import { type FourBitType, fourBitLevels } from "../../base/four-bit.ts";
import { elementCount, formatShape } from "../../base/shape.ts";
import { count, type FieldSource, fieldError, finiteNumber, readField, requireField, text } from "../config/fields.ts";
import { describeJson, parseJsonObject } from "../json.ts";
import type { TensorInfo, WeightSource } from "../weight-source.ts";

/**
 * A matrix in 4 bits, as bitsandbytes stores it: two codes a byte, the first in the high bits, over the flattened row-major
 * matrix; one absmax per block of `blockSize` consecutive elements.
 */
export interface FourBitWeight {
  readonly kind: "bnb4";
  /** Of the weight that it stands for: `….q_proj.weight`. */
  readonly name: string;
  readonly type: FourBitType;
  /** Of the matrix, not of the packed bytes. */
  readonly shape: readonly number[];
  /** What the matrix was before, and dequantizes to. */
  readonly dtype: DType;
  readonly blockSize: number;
  /** ceil(elements / 2) bytes. */
  readonly packed: TensorInfo;
  /** [blocks]: float32, or uint8 codes when `nested` is there. */
  readonly absmax: TensorInfo;
  /** Double quantization: absmax = code[absmax] * nested.absmax + offset, each nested absmax for `blockSize` of them. */
  readonly nested: NestedAbsmax | undefined;
}

export interface NestedAbsmax {
  readonly blockSize: number;
  /** [ceil(blocks / blockSize)] float32. */
  readonly absmax: TensorInfo;
  /** [256] float32. */
  readonly code: TensorInfo;
  readonly offset: number;
}

const stateName = /^(.+)\.quant_state\.bitsandbytes__([a-z0-9]+)$/;
/** What may stand beside a quantized weight. */
const companions = ["absmax", "quant_map", "nested_absmax", "nested_quant_map"];
/** A state is some 170 bytes of JSON. */
const maxStateBytes = 1 << 16;
const blockSizes: ReadonlySet<number> = new Set([32, 64, 128, 256, 512, 1024, 2048, 4096]);

/** The companions of `weight` that a source may hold; they are part of it and no weights of their own. */
export function companionNames(weight: string, type: FourBitType): string[] {
  return [...companions, `quant_state.bitsandbytes__${type}`].map((suffix) => `${weight}.${suffix}`);
}

/**
 * Finds every 4-bit weight of a source by the tensors that are there, whatever the config says, and checks that they agree: sizes
 * with shape and block size, dtypes, and the levels themselves. Reads some 200 bytes for each.
 * Throws FormatError naming the weight, UnsupportedError for types other than nf4 and fp4.
 */
export function findFourBitWeights(source: WeightSource): Map<string, FourBitWeight> {
  const weights = new Map<string, FourBitWeight>();
  for (const info of source.tensors.values()) {
    const match = stateName.exec(info.name);
    if (!match) continue;
    const [, name, type] = match;
    if (type !== "nf4" && type !== "fp4") {
      throw new UnsupportedError(
        `${info.file}: ${name} is quantized to ${type} by bitsandbytes; llcuda reads nf4 and fp4`,
      );
    }
    if (weights.has(name!)) throw new FormatError(info.file, `${info.file}: ${name} has two quantization states`);
    weights.set(name!, readWeight(source, name!, type, info));
  }
  return weights;
}

function readWeight(source: WeightSource, name: string, type: FourBitType, state: TensorInfo): FourBitWeight {
  const fields = readState(source, state);
  if (requireField(fields, "quant_type", text) !== type)
    throw fieldError(fields, "quant_type", fields.json.quant_type, `"${type}"`);
  const blockSize = readBlockSize(fields, "blocksize");
  const shape = readShape(fields);
  const elements = elementCount(shape);
  const blocks = Math.ceil(elements / blockSize);
  const part = (suffix: string, dtype: string, size: number) => {
    const info = find(source, suffix === "" ? name : `${name}.${suffix}`, name);
    const isRight = info.dtype === dtype && elementCount(info.shape) === size;
    if (isRight) return info;
    throw new FormatError(
      info.file,
      `${info.file}: ${info.name} is ${info.dtype} ${formatShape(info.shape)}; a ${type} weight ${formatShape(shape)} with blocks of ${blockSize} needs ${size} elements of ${dtype}`,
    );
  };
  checkLevels(source, part("quant_map", "F32", 16), type);
  const isNested = fields.json.nested_blocksize !== undefined || source.tensors.has(`${name}.nested_absmax`);
  return {
    kind: "bnb4",
    name,
    type,
    shape,
    dtype: readDType(fields),
    blockSize,
    packed: findPacked(source, name, Math.ceil(elements / 2), shape),
    absmax: part("absmax", isNested ? "U8" : "F32", blocks),
    nested: isNested ? readNested(fields, blocks, part) : undefined,
  };
}

function readNested(
  fields: FieldSource,
  blocks: number,
  part: (suffix: string, dtype: string, size: number) => TensorInfo,
): NestedAbsmax {
  const blockSize = readBlockSize(fields, "nested_blocksize");
  const nestedDType = readField(fields, "nested_dtype", text, "float32");
  if (nestedDType !== "float32") throw fieldError(fields, "nested_dtype", nestedDType, '"float32"');
  return {
    blockSize,
    absmax: part("nested_absmax", "F32", Math.ceil(blocks / blockSize)),
    code: part("nested_quant_map", "F32", 256),
    offset: requireField(fields, "nested_offset", finiteNumber),
  };
}

/** The JSON that bitsandbytes keeps as a tensor of bytes. */
function readState(source: WeightSource, info: TensorInfo): FieldSource {
  if (info.dtype !== "U8" || info.byteLength > maxStateBytes) {
    throw new FormatError(
      info.file,
      `${info.file}: ${info.name} is ${info.dtype} ${formatShape(info.shape)}; expected at most ${maxStateBytes} bytes of JSON`,
    );
  }
  const json = parseJsonObject(source.read(info.name), info.file, info.name, info.byteOffset);
  return { file: info.file, prefix: `${info.name} `, json };
}

function readBlockSize(fields: FieldSource, name: string): number {
  const size = requireField(fields, name, count);
  if (blockSizes.has(size)) return size;
  throw fieldError(fields, name, size, `one of ${[...blockSizes].join(", ")}`);
}

function readShape(fields: FieldSource): readonly number[] {
  const shape: unknown = fields.json.shape;
  const isShape = Array.isArray(shape) && shape.length > 0 && shape.length <= 4 && shape.every((n) => count.accepts(n));
  if (isShape && elementCount(shape as number[]) <= Number.MAX_SAFE_INTEGER) return Object.freeze(shape as number[]);
  throw fieldError(fields, "shape", shape, "a list of one to four sizes");
}

function readDType(fields: FieldSource): DType {
  const name = requireField(fields, "dtype", text);
  const isFloat = name === "float32" || name === "float16" || name === "bfloat16";
  if (isFloat) return dtypeOf(name);
  throw fieldError(fields, "dtype", name, '"float32", "float16" or "bfloat16"');
}

/** The packed bytes have any dtype, whose elements are then mere storage (`bnb_4bit_quant_storage`), and any shape. */
function findPacked(source: WeightSource, name: string, bytes: number, shape: readonly number[]): TensorInfo {
  const info = find(source, name, name);
  if (info.byteLength === bytes && dtypeFromSafetensors(info.dtype)) return info;
  throw new FormatError(
    info.file,
    `${info.file}: ${name} holds ${info.byteLength} bytes (${info.dtype}); ${formatShape(shape)} in 4 bits needs ${bytes}`,
  );
}

function find(source: WeightSource, name: string, weight: string): TensorInfo {
  const info = source.tensors.get(name);
  if (info) return info;
  const { file } = source.tensors.values().next().value!;
  throw new FormatError(
    file,
    `${file}: there is no ${describeJson(name)}, though ${weight} has a bitsandbytes quantization state; is the checkpoint complete?`,
  );
}

/** Kernels know the levels by heart, so a file with others would be read wrongly. */
function checkLevels(source: WeightSource, info: TensorInfo, type: FourBitType): void {
  const found = new Float32Array(source.read(info.name).buffer);
  const expected = fourBitLevels[type];
  // A fraction of the distance between levels: files hold these numbers as some version of bitsandbytes computed them.
  if (found.every((level, i) => Math.abs(level - expected[i]!) < 1e-5)) return;
  throw new UnsupportedError(
    `${info.file}: ${info.name} holds other levels than those of ${type}, which llcuda does not read`,
  );
}
