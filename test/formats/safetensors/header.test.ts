import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FileError, FormatError } from "../../../src/base/errors.ts";
import { SafetensorsFile } from "../../../src/formats/safetensors/file.ts";
import { headerLength, parseHeader } from "../../../src/formats/safetensors/header.ts";
import { thrownBy } from "../support.ts";

let scratch = "";
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "llcuda-header-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** A file with this header and so many bytes of data. `announced` overrides the length that the first 8 bytes give. */
function file(header: unknown, dataBytes: number, announced?: bigint): string {
  const json = typeof header === "string" ? header : JSON.stringify(header);
  const text = Buffer.from(json, typeof header === "string" ? "latin1" : "utf8");
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(announced ?? BigInt(text.length));
  const path = join(scratch, "case.safetensors");
  writeFileSync(path, Buffer.concat([prefix, text, Buffer.alloc(dataBytes)]));
  return path;
}

const f32 = (shape: unknown, begin: unknown, end: unknown) => ({ dtype: "F32", shape, data_offsets: [begin, end] });

describe("a malformed safetensors file is refused in one sentence", () => {
  test.each<[string, unknown, number, bigint | undefined, RegExp]>([
    [
      "header beyond the file",
      { a: f32([1], 0, 4) },
      4,
      1000n,
      /truncated safetensors file: the header should have 1000 bytes/,
    ],
    ["header beyond the limit", {}, 0, 100_000_001n, /header of 100000001 bytes, more than the format's limit/],
    ["header length beyond 2^53", {}, 0, 2n ** 63n + 5n, /more than the format's limit/],
    ["not JSON", '{"a": ', 0, undefined, /the safetensors header is not valid JSON/],
    ["not an object", "[1]", 0, undefined, /must start with "\{"/],
    ["empty header", "", 0, undefined, /must start with "\{"/],
    ["text before the object", " {}", 0, undefined, /must start with "\{"/],
    ["not UTF-8", '{"\xff": 1}', 0, undefined, /is not UTF-8/],
    [
      "duplicate tensor",
      '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
      1,
      undefined,
      /has the key "a" twice/,
    ],
    [
      "duplicate by escape",
      '{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"\\u0061":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
      0,
      undefined,
      /has the key "a" twice/,
    ],
    [
      "duplicate field",
      '{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}',
      1,
      undefined,
      /has the key "dtype" twice/,
    ],
    ["duplicate metadata", '{"__metadata__":{"k":"1","k":"2"}}', 0, undefined, /has the key "k" twice/],
    ["tensor that is no object", { a: 3 }, 0, undefined, /tensor "a": expected an object/],
    ["tensor that is null", { a: null }, 0, undefined, /tensor "a": expected an object .* got null/],
    ["no dtype", { a: { shape: [1], data_offsets: [0, 4] } }, 4, undefined, /dtype must be a name, got nothing/],
    [
      "dtype not a string",
      { a: { dtype: 5, shape: [1], data_offsets: [0, 4] } },
      4,
      undefined,
      /dtype must be a name, got 5/,
    ],
    ["no shape", { a: { dtype: "F32", data_offsets: [0, 4] } }, 4, undefined, /shape must be a list/],
    ["negative size", { a: f32([-1], 0, 4) }, 4, undefined, /shape must be a list/],
    ["fractional size", { a: f32([1.5], 0, 4) }, 4, undefined, /shape must be a list/],
    ["size as text", { a: f32(["1"], 0, 4) }, 4, undefined, /shape must be a list/],
    [
      "size beyond 2^53",
      '{"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4]}}',
      4,
      undefined,
      /shape must be a list/,
    ],
    ["too many dimensions", { a: f32(new Array(65).fill(1), 0, 4) }, 4, undefined, /at most 64 sizes/],
    [
      "overflowing shape",
      { a: f32([2 ** 30, 2 ** 30, 2 ** 30], 0, 4) },
      4,
      undefined,
      /more elements than any file can hold/,
    ],
    [
      "overflowing shape of unknown dtype",
      { a: { dtype: "X1", shape: [2 ** 52, 4], data_offsets: [0, 4] } },
      4,
      undefined,
      /more elements/,
    ],
    [
      "no offsets",
      { a: { dtype: "F32", shape: [1] } },
      4,
      undefined,
      /data_offsets must be \[begin, end\], got nothing/,
    ],
    [
      "three offsets",
      { a: { dtype: "F32", shape: [1], data_offsets: [0, 4, 8] } },
      8,
      undefined,
      /data_offsets must be/,
    ],
    ["negative offset", { a: f32([1], -4, 0) }, 4, undefined, /data_offsets must be/],
    ["offsets reversed", { a: f32([1], 4, 0) }, 4, undefined, /end before they begin/],
    [
      "wrong size",
      { a: f32([2, 3], 0, 20) },
      20,
      undefined,
      /F32 \[2, 3\] needs 24 bytes, but data_offsets \[0, 20\] hold 20/,
    ],
    [
      "half a byte",
      { a: { dtype: "F4", shape: [3], data_offsets: [0, 2] } },
      2,
      undefined,
      /F4 \[3\] needs 1\.5 bytes/,
    ],
    [
      "truncated data",
      { a: f32([1], 0, 4), b: f32([2], 4, 12) },
      8,
      undefined,
      /truncated safetensors file: tensor "b" ends at byte/,
    ],
    ["overlap", { a: f32([2], 0, 8), b: f32([1], 4, 8) }, 8, undefined, /tensor "b" overlaps tensor "a" by 4 bytes/],
    [
      "hole",
      { a: f32([1], 0, 4), b: f32([1], 8, 12) },
      12,
      undefined,
      /tensor "b" leaves a hole of 4 bytes after tensor "a"/,
    ],
    ["hole at the start", { a: f32([1], 4, 8) }, 8, undefined, /leaves a hole of 4 bytes after the header/],
    ["trailing bytes", { a: f32([1], 0, 4) }, 9, undefined, /5 bytes follow the last tensor/],
    ["data without tensors", {}, 1, undefined, /1 bytes follow the last tensor/],
    ["metadata not a map", { __metadata__: 3 }, 0, undefined, /__metadata__ must map strings to strings, got 3/],
    ["metadata value not text", { __metadata__: { a: 1 } }, 0, undefined, /__metadata__ "a" must be a string, got 1/],
  ])("%s", (_, header, dataBytes, announced, message) => {
    const path = file(header, dataBytes, announced);
    const error = thrownBy(() => SafetensorsFile.open(path).close());
    expect(error).toBeInstanceOf(FormatError);
    expect(error?.message).toMatch(message);
    expect((error as FormatError).file).toBe(path);
    expect((error as FormatError).byteOffset).toBeGreaterThan(-1);
    expect(error?.message.split("\n").length).toBe(1);
  });

  test("fewer than 8 bytes", () => {
    const path = join(scratch, "short.safetensors");
    for (const size of [0, 1, 7]) {
      writeFileSync(path, Buffer.alloc(size));
      expect(thrownBy(() => SafetensorsFile.open(path))?.message).toMatch(/truncated safetensors file: \d bytes/);
    }
  });

  test("every truncation of a sound file", () => {
    const header = JSON.stringify({ a: f32([3], 0, 12) });
    const whole = Buffer.concat([Buffer.alloc(8), Buffer.from(header), Buffer.alloc(12)]);
    whole.writeBigUInt64LE(BigInt(header.length));
    const path = join(scratch, "cut.safetensors");
    for (let size = 0; size < whole.length; size++) {
      writeFileSync(path, whole.subarray(0, size));
      expect(thrownBy(() => SafetensorsFile.open(path))?.message).toMatch(/truncated/);
    }
    writeFileSync(path, whole);
    SafetensorsFile.open(path).close();
  });

  test("where a duplicate stands is told in bytes", () => {
    const text = '{"é":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"é":1}';
    const json = new TextEncoder().encode(text);
    const error = thrownBy(() => parseHeader(json, "f", 8 + json.length)) as FormatError;
    expect(error.byteOffset).toBe(8 + new TextEncoder().encode(text.slice(0, text.lastIndexOf('"é"'))).length);
  });

  test("a missing file and a folder", () => {
    expect(thrownBy(() => SafetensorsFile.open(join(scratch, "absent")))).toBeInstanceOf(FileError);
    expect(thrownBy(() => SafetensorsFile.open(scratch))).toBeInstanceOf(FileError);
  });
});

describe("sound headers", () => {
  test("tensors come in the order of their bytes, scalars and empty tensors included", () => {
    const path = file(
      {
        __metadata__: { format: "pt" },
        late: f32([1], 8, 12),
        scalar: f32([], 0, 4),
        empty: f32([0, 7], 4, 4),
        middle: f32([1], 4, 8),
        constructor: f32([0], 12, 12),
      },
      12,
    );
    using opened = SafetensorsFile.open(path);
    expect([...opened.tensors.keys()]).toEqual(["scalar", "empty", "middle", "late", "constructor"]);
    expect(opened.metadata).toEqual({ format: "pt" });
    expect(opened.tensors.get("scalar")!.byteLength).toBe(4);
    expect(opened.read("empty").length).toBe(0);
  });

  test("dtypes without storage here are listed by name, and their bytes can be read", () => {
    const path = file(
      {
        a: { dtype: "F8_E4M3", shape: [3], data_offsets: [0, 3] },
        b: { dtype: "F4", shape: [2, 2], data_offsets: [3, 5] },
        c: { dtype: "Q9_NEW", shape: [100], data_offsets: [5, 12] },
      },
      12,
    );
    using opened = SafetensorsFile.open(path);
    expect([...opened.tensors.values()].map((t) => [t.dtype, t.elementType])).toEqual([
      ["F8_E4M3", undefined],
      ["F4", undefined],
      ["Q9_NEW", undefined],
    ]);
    expect(opened.read("c").length).toBe(7);
  });

  test("padding with spaces after the object is part of the format", () => {
    SafetensorsFile.open(file("{}      ", 0)).close();
  });

  test("the announced length is read as 64 bits", () => {
    const prefix = new Uint8Array([16, 0, 0, 0, 1, 0, 0, 0]);
    expect(thrownBy(() => headerLength(prefix, "f", 2 ** 40))?.message).toMatch(/4294967312 bytes, more than/);
    expect(headerLength(new Uint8Array([16, 0, 0, 0, 0, 0, 0, 0]), "f", 24)).toBe(16);
  });
});
