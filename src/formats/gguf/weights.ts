import { dtypeFromSafetensors } from "../../base/dtype.ts";
import { ArgumentError, FormatError, UnsupportedError } from "../../base/errors.ts";
import { formatShape } from "../../base/shape.ts";
import { checkRange, type TensorInfo, type WeightSource } from "../weight-source.ts";
import { findGgufArchitecture, type GgufArchitecture, rotaryTensor } from "./architectures.ts";
import type { GgufTensor } from "./header.ts";
import { readHeads } from "./heads.ts";
import { checkpointNames } from "./names.ts";
import type { GgufParts } from "./parts.ts";
import { deinterleaveRows, type Rewrite, subtractOne } from "./rewrite.ts";

/**
 * The weights of a GGUF model under the names, in the shapes and in the order of the HuggingFace checkpoint that it was converted
 * from: what differs is undone while reading. Quantized tensors keep their blocks; merged experts appear one by one.
 */
export class GgufWeights implements WeightSource {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly totalBytes: number;
  readonly #parts: GgufParts;
  readonly #rewrites: ReadonlyMap<TensorInfo, Rewrite>;

  /** Takes the open files over and closes them. Throws UnsupportedError for architectures and tensors that are not known. */
  constructor(parts: GgufParts) {
    this.#parts = parts;
    const architecture = findGgufArchitecture(parts.metadata);
    const { headDim } = readHeads(parts.metadata);
    const tensors = new Map<string, TensorInfo>();
    const rewrites = new Map<TensorInfo, Rewrite>();
    let totalBytes = 0;
    for (const tensor of parts.tensors.values()) {
      if (rotaryTensor.test(tensor.name)) continue;
      for (const { name, part } of checkpointNames(tensor, architecture)) {
        const info = tensorInfo(tensor, name, part);
        const other = tensors.get(name);
        if (other) throw new FormatError(tensor.file, `${tensor.file}: two tensors stand for "${name}"`);
        tensors.set(name, info);
        totalBytes += info.byteLength;
        const rewrite = rewriteOf(info, architecture, headDim);
        if (rewrite) rewrites.set(info, rewrite);
      }
    }
    this.tensors = tensors;
    this.totalBytes = totalBytes;
    this.#rewrites = rewrites;
  }

  read(name: string): Uint8Array {
    const info = this.tensors.get(name);
    if (!info) throw new ArgumentError(`${this.#parts.path}: there is no tensor "${name}"`);
    const bytes = new Uint8Array(info.byteLength);
    this.readIntoSync(info, 0, bytes);
    return bytes;
  }

  async readInto(info: TensorInfo, offset: number, target: Uint8Array): Promise<void> {
    const { rewrite, bytes, skip } = this.#plan(info, offset, target);
    await this.#parts.fileOf(info.file).read(bytes, info.byteOffset + offset - skip);
    if (rewrite) target.set(rewrite.apply(bytes).subarray(skip, skip + target.length));
  }

  readIntoSync(info: TensorInfo, offset: number, target: Uint8Array): void {
    const { rewrite, bytes, skip } = this.#plan(info, offset, target);
    this.#parts.fileOf(info.file).readSync(bytes, info.byteOffset + offset - skip);
    if (rewrite) target.set(rewrite.apply(bytes).subarray(skip, skip + target.length));
  }

  close(): void {
    this.#parts.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** What to read: the target itself, or the whole units around it, of which the first `skip` bytes are not asked for. */
  #plan(info: TensorInfo, offset: number, target: Uint8Array): { rewrite?: Rewrite; bytes: Uint8Array; skip: number } {
    checkRange(info, offset, target.length);
    const rewrite = this.#rewrites.get(info);
    if (!rewrite) return { bytes: target, skip: 0 };
    const { unitBytes } = rewrite;
    const start = Math.floor(offset / unitBytes) * unitBytes;
    const end = Math.ceil((offset + target.length) / unitBytes) * unitBytes;
    return { rewrite, bytes: new Uint8Array(end - start), skip: offset - start };
  }
}

/** A tensor under a name, or one of its equal parts along the first dimension. */
export function tensorInfo(tensor: GgufTensor, name: string, part: number | undefined): TensorInfo {
  const { type, file } = tensor;
  const isBlocks = type.kind === "block" || type.kind === "superblock";
  const [parts = 1, ...rest] = tensor.shape;
  const byteLength = part === undefined ? tensor.byteLength : tensor.byteLength / parts;
  return {
    name,
    dtype: type.name,
    elementType: isBlocks ? undefined : dtypeFromSafetensors(type.name),
    ggml: isBlocks ? type : undefined,
    shape: part === undefined ? tensor.shape : rest,
    file,
    byteOffset: tensor.byteOffset + (part ?? 0) * byteLength,
    byteLength,
  };
}

function rewriteOf(info: TensorInfo, architecture: GgufArchitecture, headDim: number): Rewrite | undefined {
  if (architecture.interleavedRotary && /\.self_attn\.[qk]_proj\./.test(info.name)) {
    const [rows = 0] = info.shape;
    if (rows % headDim === 0 && headDim % 2 === 0) return deinterleaveRows(headDim, info.byteLength / rows);
    throw new FormatError(
      info.file,
      `${info.file}: ${info.name} is ${formatShape(info.shape)}; expected rows in whole heads of ${headDim}`,
    );
  }
  if (!architecture.normsPlusOne || !info.name.endsWith("norm.weight")) return undefined;
  if (info.elementType) return subtractOne(info.elementType);
  throw new UnsupportedError(
    `${info.file}: norm ${info.name} is of type ${info.dtype}; llcuda reads F32, F16 and BF16`,
  );
}
