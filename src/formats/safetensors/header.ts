import { dtypeFromSafetensors } from "../../base/dtype.ts";
import { FormatError } from "../../base/errors.ts";
import { formatShape } from "../../base/shape.ts";
import { describeJson, isJsonObject, type JsonObject, parseJsonObject } from "../json.ts";
import type { TensorInfo } from "../weight-source.ts";

export interface SafetensorsHeader {
  /** In the order of their bytes in the file. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: Readonly<Record<string, string>>;
  /** Where the tensors' bytes begin: 8 + the length of the JSON. */
  readonly dataOffset: number;
}

/** The format's own limit; a larger header is refused before it is read. */
export const maxHeaderBytes = 100_000_000;

/** PyTorch's limit on dimensions. */
const maxDimensions = 64;

/** Bits of one element. A dtype that is not here is listed, but the size of its tensors cannot be checked. */
const bitsOfDType = new Map<string, number>([
  ["BOOL", 8],
  ["U8", 8],
  ["I8", 8],
  ["F8_E4M3", 8],
  ["F8_E5M2", 8],
  ["F8_E8M0", 8],
  ["F8_E4M3FNUZ", 8],
  ["F8_E5M2FNUZ", 8],
  ["F4", 4],
  ["F6_E2M3", 6],
  ["F6_E3M2", 6],
  ["I16", 16],
  ["U16", 16],
  ["F16", 16],
  ["BF16", 16],
  ["I32", 32],
  ["U32", 32],
  ["F32", 32],
  ["I64", 64],
  ["U64", 64],
  ["F64", 64],
  ["C64", 64],
]);

/**
 * Reads the length of the header from the first 8 bytes (u64, little-endian) of a file of `fileBytes`.
 * Throws FormatError when the file is too short to hold it or it is beyond the format's limit.
 */
export function headerLength(prefix: Uint8Array, file: string, fileBytes: number): number {
  if (fileBytes < 8 || prefix.length < 8) {
    throw new FormatError(file, `${file}: truncated safetensors file: ${fileBytes} bytes, too short for any header`, {
      byteOffset: 0,
    });
  }
  const length = new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true);
  if (length > BigInt(maxHeaderBytes)) {
    throw new FormatError(
      file,
      `${file}: its first 8 bytes announce a header of ${length} bytes, more than the format's limit of ${maxHeaderBytes}; this is not a safetensors file or it is damaged`,
      { byteOffset: 0 },
    );
  }
  if (Number(length) > fileBytes - 8) {
    throw new FormatError(
      file,
      `${file}: truncated safetensors file: the header should have ${length} bytes but only ${fileBytes - 8} follow; download it again`,
      { byteOffset: 8 },
    );
  }
  return Number(length);
}

/**
 * Parses and validates a header against the size of its file: every tensor's bytes are in the file, have the size that dtype
 * and shape ask for, and together they cover the data exactly, without overlap or hole.
 * `json` is the header without its 8-byte length. Throws FormatError naming the tensor.
 * Source: the safetensors format description and the checks of its Rust reader.
 */
export function parseHeader(json: Uint8Array, file: string, fileBytes: number): SafetensorsHeader {
  const what = "the safetensors header";
  if (json[0] !== 0x7b) {
    throw new FormatError(
      file,
      `${file}: ${what} must start with "{"; this is not a safetensors file or it is damaged`,
      {
        byteOffset: 8,
      },
    );
  }
  const root = parseJsonObject(json, file, what, 8);
  const dataOffset = 8 + json.length;
  const infos: TensorInfo[] = [];
  for (const [name, value] of Object.entries(root)) {
    if (name !== "__metadata__") infos.push(parseTensor(name, value, file, dataOffset));
  }
  infos.sort((a, b) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength);
  checkCoverage(infos, file, dataOffset, fileBytes);
  return { tensors: new Map(infos.map((t) => [t.name, t])), metadata: parseMetadata(root, file), dataOffset };
}

function parseTensor(name: string, value: unknown, file: string, dataOffset: number): TensorInfo {
  const fail = (problem: string): never => {
    throw new FormatError(file, `${file}: tensor ${describeJson(name)}: ${problem}`, { byteOffset: 8 });
  };
  if (!isJsonObject(value))
    return fail(`expected an object with dtype, shape and data_offsets, got ${describeJson(value)}`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== "string" || dtype === "") return fail(`dtype must be a name, got ${describeJson(dtype)}`);
  if (!Array.isArray(shape) || shape.length > maxDimensions || !shape.every(isSize)) {
    return fail(`shape must be a list of at most ${maxDimensions} sizes, got ${describeJson(shape)}`);
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize)) {
    return fail(`data_offsets must be [begin, end], got ${describeJson(offsets)}`);
  }
  const [begin, end] = offsets as [number, number];
  if (end < begin) return fail(`data_offsets [${begin}, ${end}] end before they begin`);
  const wanted = wantedBytes(dtype, shape);
  if (wanted === "overflow") return fail(`shape ${formatShape(shape)} has more elements than any file can hold`);
  if (wanted !== undefined && wanted !== end - begin) {
    return fail(
      `${dtype} ${formatShape(shape)} needs ${wanted} bytes, but data_offsets [${begin}, ${end}] hold ${end - begin}`,
    );
  }
  return {
    name,
    dtype,
    elementType: dtypeFromSafetensors(dtype),
    shape: Object.freeze([...shape] as number[]),
    file,
    byteOffset: dataOffset + begin,
    byteLength: end - begin,
  };
}

/** The bytes of a tensor; undefined when the dtype is not known; a fraction for sub-byte types that do not fill their last byte. */
function wantedBytes(dtype: string, shape: readonly number[]): number | "overflow" | undefined {
  if (shape.includes(0)) return 0;
  const bits = bitsOfDType.get(dtype);
  let total = bits ?? 1;
  for (const size of shape) {
    total *= size;
    if (total > Number.MAX_SAFE_INTEGER) return "overflow";
  }
  return bits === undefined ? undefined : total / 8;
}

function checkCoverage(sorted: readonly TensorInfo[], file: string, dataOffset: number, fileBytes: number): void {
  let end = dataOffset;
  let previous = "the header";
  for (const info of sorted) {
    if (info.byteOffset !== end) {
      const gap = info.byteOffset - end;
      const problem =
        gap > 0 ? `leaves a hole of ${gap} bytes after ${previous}` : `overlaps ${previous} by ${-gap} bytes`;
      throw new FormatError(file, `${file}: tensor ${describeJson(info.name)} ${problem}; the file is damaged`, {
        byteOffset: info.byteOffset,
      });
    }
    end += info.byteLength;
    previous = `tensor ${describeJson(info.name)}`;
    if (end > fileBytes) {
      throw new FormatError(
        file,
        `${file}: truncated safetensors file: ${previous} ends at byte ${end} but the file has ${fileBytes} bytes; download it again`,
        { byteOffset: info.byteOffset },
      );
    }
  }
  if (end !== fileBytes) {
    throw new FormatError(file, `${file}: ${fileBytes - end} bytes follow the last tensor, where the file should end`, {
      byteOffset: end,
    });
  }
}

function parseMetadata(root: JsonObject, file: string): Record<string, string> {
  const metadata = Object.hasOwn(root, "__metadata__") ? root.__metadata__ : {};
  if (!isJsonObject(metadata)) {
    throw new FormatError(file, `${file}: __metadata__ must map strings to strings, got ${describeJson(metadata)}`, {
      byteOffset: 8,
    });
  }
  for (const [key, value] of Object.entries(metadata)) {
    if (typeof value !== "string") {
      throw new FormatError(
        file,
        `${file}: __metadata__ ${describeJson(key)} must be a string, got ${describeJson(value)}`,
        {
          byteOffset: 8,
        },
      );
    }
  }
  return metadata as Record<string, string>;
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0 && !Object.is(value, -0);
}
