import { FormatError, UnsupportedError } from "../../base/errors.ts";
import { type GgmlType, ggmlBytes, ggmlTypeById } from "../../base/ggml.ts";
import { formatShape } from "../../base/shape.ts";
import { describeJson } from "../json.ts";
import { type ByteSource, Cursor } from "./cursor.ts";
import { GgufMetadata } from "./metadata.ts";
import { arrayTypeId, boolTypeId, type GgufValue, numberTypeById, stringTypeId } from "./values.ts";

/** One tensor as the file describes it. */
export interface GgufTensor {
  readonly name: string;
  readonly type: GgmlType;
  /** Row-major, as everywhere here: the reverse of the order in the file, whose first dimension is the contiguous one. */
  readonly shape: readonly number[];
  readonly file: string;
  /** From the start of the file. */
  readonly byteOffset: number;
  readonly byteLength: number;
}

export interface GgufHeader {
  readonly version: number;
  readonly metadata: GgufMetadata;
  /** In the order of their bytes. */
  readonly tensors: ReadonlyMap<string, GgufTensor>;
  /** Where the tensors' bytes begin. */
  readonly dataOffset: number;
}

/** Far beyond any model, and little enough that as many entries fit in memory. */
const maxEntries = 1 << 16;
const maxTensors = 1 << 17;
/** What the format allows for keys; tensor names are shorter still. */
const maxNameBytes = 65_535;
/** ggml's own limit. */
const maxDimensions = 4;
export const defaultAlignment = 32;
const maxAlignment = 1 << 20;
export const alignments = `a power of two of at most ${maxAlignment}`;

/** Whether tensors may be placed at multiples of this. */
export function isAlignment(bytes: number): boolean {
  return bytes > 0 && bytes <= maxAlignment && Number.isInteger(Math.log2(bytes));
}

/** "GGUF", and what its predecessors began with, as little-endian numbers. */
const magic = 0x46554747;
const oldMagics: ReadonlySet<number> = new Set([0x67676d6c, 0x67676d66, 0x67676a74, 0x67676c61]);

/**
 * Reads and validates all that stands before the tensors: types, counts and lengths are checked against the file before they are
 * believed, keys and names are unique, and every tensor's bytes lie in the file, aligned, and in no other tensor.
 * No byte of a tensor is read. Versions 1 to 3, little-endian. Throws FormatError, or UnsupportedError for big-endian
 * files, later versions, and the formats before GGUF. Source: the GGUF format description in ggml's docs.
 */
export function parseGguf(source: ByteSource): GgufHeader {
  const cursor = new Cursor(source);
  const version = readVersion(cursor, source.path);
  const size = () => (version === 1 ? cursor.u32() : cursor.u64());
  cursor.reading = "the count of tensors";
  const tensorCount = size();
  if (tensorCount > maxTensors) cursor.fail(`is ${tensorCount}, more than ${maxTensors}; the file is damaged`);
  cursor.reading = "the count of metadata entries";
  const entryCount = size();
  if (entryCount > maxEntries) cursor.fail(`is ${entryCount}, more than ${maxEntries}; the file is damaged`);
  const metadata = new GgufMetadata(source.path, readEntries(cursor, entryCount, size));
  const alignment = readAlignment(metadata);
  const listed: ListedTensor[] = [];
  for (let i = 0; i < tensorCount; i++) listed.push(readTensor(cursor, i, alignment, size));
  const dataOffset = Math.ceil(cursor.position / alignment) * alignment;
  const tensors = placeTensors(listed, dataOffset, source);
  return { version, metadata, tensors, dataOffset };
}

function readVersion(cursor: Cursor, path: string): number {
  const found = cursor.u32();
  if (oldMagics.has(found)) {
    throw new UnsupportedError(`${path}: this is a GGML file from before GGUF; convert the model again with llama.cpp`);
  }
  if (found !== magic) cursor.fail('does not begin with "GGUF"; this is not a GGUF file or it is damaged', 4);
  cursor.reading = "the version";
  const version = cursor.u32();
  if (version !== 0 && version % 0x10000 === 0) {
    throw new UnsupportedError(`${path}: this GGUF file is big-endian; use the little-endian one of the same model`);
  }
  if (version === 0) cursor.fail("is 0; the file is damaged", 4);
  if (version > 3) {
    throw new UnsupportedError(`${path}: GGUF version ${version} is not supported; known are 1, 2 and 3`);
  }
  return version;
}

function readEntries(cursor: Cursor, count: number, size: () => number): Map<string, GgufValue> {
  const entries = new Map<string, GgufValue>();
  for (let i = 0; i < count; i++) {
    cursor.reading = `the key of metadata entry ${i}`;
    const key = readName(cursor, size);
    if (entries.has(key)) cursor.fail(`is ${describeJson(key)}, which there already is`);
    cursor.reading = `the type of metadata ${describeJson(key)}`;
    const type = cursor.u32();
    cursor.reading = `metadata ${describeJson(key)}`;
    entries.set(key, type === arrayTypeId ? readArray(cursor, size) : readScalar(cursor, type, size));
  }
  return entries;
}

function readName(cursor: Cursor, size: () => number): string {
  const length = size();
  if (length === 0 || length > maxNameBytes) cursor.fail(`has ${length} bytes; expected 1 to ${maxNameBytes}`);
  const name = cursor.text(length);
  if (name.includes("\ufffd")) cursor.fail("is not UTF-8 text", length);
  return name;
}

function readScalar(cursor: Cursor, type: number, size: () => number): GgufValue {
  if (type === stringTypeId) return { type: "string", value: cursor.text(size()) };
  if (type === boolTypeId) return { type: "bool", value: readBool(cursor) };
  const numberType = numberTypeById(type);
  if (!numberType) return cursor.fail(`has type ${type}, which the format does not have`, 4);
  const [value] = new numberType.array(cursor.bytes(numberType.bytes).buffer);
  return { type: numberType.name, value: value! };
}

function readBool(cursor: Cursor): boolean {
  const byte = cursor.u8();
  if (byte > 1) cursor.fail(`holds ${byte} where a bool must be 0 or 1`, 1);
  return byte === 1;
}

function readArray(cursor: Cursor, size: () => number): GgufValue {
  const of = cursor.u32();
  const count = size();
  if (of === stringTypeId) {
    cursor.need(count * 4); // a length stands before each
    const value: string[] = [];
    for (let i = 0; i < count; i++) value.push(cursor.text(size()));
    return { type: "array", of: "string", value };
  }
  if (of === boolTypeId) {
    const value = cursor.bytes(count);
    if (value.some((byte) => byte > 1)) cursor.fail("holds a bool that is neither 0 nor 1");
    return { type: "array", of: "bool", value };
  }
  if (of === arrayTypeId) cursor.fail("is an array of arrays, which no model needs; the file is damaged");
  const numberType = numberTypeById(of);
  if (!numberType) return cursor.fail(`is an array of type ${of}, which the format does not have`);
  const bytes = cursor.bytes(count * numberType.bytes);
  return { type: "array", of: numberType.name, value: new numberType.array(bytes.buffer) };
}

function readAlignment(metadata: GgufMetadata): number {
  const alignment = metadata.find("size", "general.alignment") ?? defaultAlignment;
  if (isAlignment(alignment)) return alignment;
  throw metadata.error("general.alignment", `is ${alignment}; expected ${alignments}`);
}

interface ListedTensor {
  readonly name: string;
  readonly type: GgmlType;
  readonly shape: readonly number[];
  /** From where the tensors' bytes begin. */
  readonly offset: number;
  readonly byteLength: number;
}

function readTensor(cursor: Cursor, index: number, alignment: number, size: () => number): ListedTensor {
  cursor.reading = `the name of tensor ${index}`;
  const name = readName(cursor, size);
  cursor.reading = `tensor ${describeJson(name)}`;
  const dimensions = cursor.u32();
  if (dimensions > maxDimensions) cursor.fail(`has ${dimensions} dimensions; expected at most ${maxDimensions}`, 4);
  const shape: number[] = [];
  let elements = 1;
  for (let i = 0; i < dimensions; i++) {
    const length = size();
    elements *= length;
    if (length === 0) cursor.fail("has a dimension of size 0");
    if (elements > Number.MAX_SAFE_INTEGER) cursor.fail("has more elements than any file can hold");
    shape.unshift(length);
  }
  const id = cursor.u32();
  const type = ggmlTypeById(id);
  if (!type) return cursor.fail(`has type ${id}, which ggml does not have (any more)`, 4);
  if ((shape.at(-1) ?? 1) % type.blockElements !== 0) {
    cursor.fail(
      `${formatShape(shape)} has rows that are no multiple of the ${type.blockElements} elements of a ${type.name} block`,
    );
  }
  const offset = cursor.u64();
  if (offset % alignment !== 0)
    cursor.fail(`begins at ${offset}, which is no multiple of the alignment ${alignment}`, 8);
  return { name, type, shape: Object.freeze(shape), offset, byteLength: ggmlBytes(type, elements) };
}

/** Checks where tensors lie: in the file, under one name each, and apart. */
function placeTensors(
  listed: readonly ListedTensor[],
  dataOffset: number,
  { path, sizeBytes }: ByteSource,
): Map<string, GgufTensor> {
  const tensors = new Map<string, GgufTensor>();
  let end = dataOffset;
  let previous = "";
  for (const { name, type, shape, offset, byteLength } of [...listed].sort((a, b) => a.offset - b.offset)) {
    const byteOffset = dataOffset + offset;
    const fail = (problem: string): never => {
      throw new FormatError(path, `${path}: tensor ${describeJson(name)} ${problem}`, { byteOffset });
    };
    if (tensors.has(name)) fail("is listed twice");
    if (byteOffset < end)
      fail(`overlaps tensor ${describeJson(previous)} by ${end - byteOffset} bytes; the file is damaged`);
    end = byteOffset + byteLength;
    previous = name;
    if (end > sizeBytes) {
      fail(`ends at byte ${end} but the file has ${sizeBytes} bytes; it is truncated, download it again`);
    }
    tensors.set(name, { name, type, shape, file: path, byteOffset, byteLength });
  }
  return tensors;
}
