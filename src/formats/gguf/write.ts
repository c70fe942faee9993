import { ArgumentError, ShapeError } from "../../base/errors.ts";
import { type GgmlType, ggmlBytes } from "../../base/ggml.ts";
import { elementCount, formatShape } from "../../base/shape.ts";
import { replaceFile, writeAll } from "../replace-file.ts";
import { alignments, defaultAlignment, isAlignment } from "./header.ts";
import {
  arrayTypeId,
  boolTypeId,
  type GgufNumberTypeName,
  type GgufValue,
  numberType,
  stringTypeId,
} from "./values.ts";

/** What a header says of a tensor that is to be written. */
export interface GgufTensorHead {
  readonly name: string;
  readonly type: GgmlType;
  readonly shape: readonly number[];
}

/**
 * A tensor to write: its elements or blocks, row-major. `data` may be a function, called once when its turn comes, that gives them at
 * once or piece by piece, so that a large model never is in memory whole.
 */
export interface GgufTensorToWrite extends GgufTensorHead {
  readonly data: ArrayBufferView | (() => ArrayBufferView | Iterable<ArrayBufferView>);
}

const version = 3;

/**
 * Writes one GGUF file, version 3: complete under its name or not there at all. Metadata and tensors stay in the order given, and
 * every tensor begins at a multiple of `general.alignment` (32 when it is absent).
 * Throws ArgumentError for a name that is empty or occurs twice, ShapeError when data does not fit its shape or rows are no whole
 * number of blocks, FileError when writing fails.
 */
export function writeGguf(
  path: string,
  metadata: ReadonlyMap<string, GgufValue>,
  tensors: Iterable<GgufTensorToWrite>,
): void {
  const list = [...tensors];
  const { head, alignment } = encodeHeader(metadata, list);
  replaceFile(path, (fd) => {
    writeAll(fd, head);
    for (const tensor of list) {
      const data = typeof tensor.data === "function" ? tensor.data() : tensor.data;
      const wanted = tensorBytes(tensor);
      let given = 0;
      for (const piece of ArrayBuffer.isView(data) ? [data] : data) {
        given += piece.byteLength;
        if (given <= wanted) writeAll(fd, new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength));
      }
      if (given !== wanted) {
        throw new ShapeError(
          `writeGguf: "${tensor.name}" ${tensor.type.name} ${formatShape(tensor.shape)} needs ${wanted} bytes, got ${given}`,
        );
      }
      writeAll(fd, new Uint8Array(padded(wanted, alignment) - wanted));
    }
  });
}

/** Everything before the data, padded, and where each tensor's data begins after it. */
export function encodeHeader(
  metadata: ReadonlyMap<string, GgufValue>,
  tensors: readonly GgufTensorHead[],
): { head: Uint8Array; offsets: readonly number[]; alignment: number } {
  const alignment = Number(metadata.get("general.alignment")?.value ?? defaultAlignment);
  if (!isAlignment(alignment)) throw new ArgumentError(`writeGguf: general.alignment must be ${alignments}`);
  const out = new Bytes();
  out.raw(Buffer.from("GGUF"));
  out.number("uint32", version);
  out.number("uint64", tensors.length);
  out.number("uint64", metadata.size);
  for (const [key, value] of metadata) {
    out.text(key);
    encodeValue(out, value);
  }
  const names = new Set<string>();
  const offsets: number[] = [];
  let offset = 0;
  for (const tensor of tensors) {
    if (tensor.name === "" || names.has(tensor.name)) {
      throw new ArgumentError(`writeGguf: the name "${tensor.name}" is ${tensor.name ? "given twice" : "empty"}`);
    }
    names.add(tensor.name);
    out.text(tensor.name);
    out.number("uint32", tensor.shape.length);
    for (const length of [...tensor.shape].reverse()) out.number("uint64", length);
    out.number("uint32", tensor.type.id);
    out.number("uint64", offset);
    offsets.push(offset);
    offset += padded(tensorBytes(tensor), alignment);
  }
  out.raw(new Uint8Array(padded(out.length, alignment) - out.length));
  return { head: out.bytes(), offsets, alignment };
}

function encodeValue(out: Bytes, value: GgufValue): void {
  out.number("uint32", value.type === "array" ? arrayTypeId : typeId(value.type));
  if (value.type === "string") out.text(value.value);
  else if (value.type === "bool") out.number("uint8", value.value ? 1 : 0);
  else if (value.type !== "array") out.number(value.type, value.value);
  else {
    out.number("uint32", typeId(value.of));
    out.number("uint64", value.value.length);
    if (value.of === "string") for (const one of value.value) out.text(one);
    else out.raw(new Uint8Array(value.value.buffer, value.value.byteOffset, value.value.byteLength));
  }
}

function typeId(name: "string" | "bool" | GgufNumberTypeName): number {
  return name === "string" ? stringTypeId : name === "bool" ? boolTypeId : numberType(name).id;
}

/** Throws ShapeError when rows are no whole number of blocks. */
export function tensorBytes({ name, type, shape }: GgufTensorHead): number {
  if ((shape.at(-1) ?? 1) % type.blockElements === 0) return ggmlBytes(type, elementCount(shape));
  throw new ShapeError(
    `writeGguf: "${name}" ${formatShape(shape)} has rows that are no multiple of the ${type.blockElements} elements of a ${type.name} block`,
  );
}

function padded(length: number, alignment: number): number {
  return Math.ceil(length / alignment) * alignment;
}

/** Little-endian values, one after the other. */
class Bytes {
  readonly #parts: Uint8Array[] = [];
  length = 0;

  raw(bytes: Uint8Array): void {
    this.#parts.push(bytes);
    this.length += bytes.length;
  }

  number(type: GgufNumberTypeName, value: number | bigint): void {
    const { array } = numberType(type);
    const cell = new array(1) as { [index: number]: number | bigint; buffer: ArrayBufferLike };
    cell[0] = type === "uint64" || type === "int64" ? BigInt(value) : Number(value);
    this.raw(new Uint8Array(cell.buffer));
  }

  text(text: string): void {
    const bytes = Buffer.from(text);
    this.number("uint64", bytes.length);
    this.raw(bytes);
  }

  bytes(): Uint8Array {
    return Buffer.concat(this.#parts);
  }
}
