import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ArgumentError, FileError, ShapeError } from "../../../src/base/errors.ts";
import { ggmlType } from "../../../src/base/ggml.ts";
import { GgufFile } from "../../../src/formats/gguf/file.ts";
import { GgufSink } from "../../../src/formats/gguf/sink.ts";
import type { GgufValue } from "../../../src/formats/gguf/values.ts";
import { writeGguf } from "../../../src/formats/gguf/write.ts";
import { seededInts, thrownBy } from "../support.ts";

let scratch = "";
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "llcuda-gguf-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const metadata = new Map<string, GgufValue>([
  ["general.architecture", { type: "string", value: "llama" }],
  ["a.bool", { type: "bool", value: true }],
  ["a.uint8", { type: "uint8", value: 255 }],
  ["a.int8", { type: "int8", value: -128 }],
  ["a.uint16", { type: "uint16", value: 65535 }],
  ["a.int16", { type: "int16", value: -32768 }],
  ["a.uint32", { type: "uint32", value: 2 ** 32 - 1 }],
  ["a.int32", { type: "int32", value: -(2 ** 31) }],
  ["a.float32", { type: "float32", value: Math.fround(0.1) }],
  ["a.uint64", { type: "uint64", value: 2n ** 64n - 1n }],
  ["a.int64", { type: "int64", value: -(2n ** 63n) }],
  ["a.float64", { type: "float64", value: Math.PI }],
  ["texts", { type: "array", of: "string", value: ["a", "", "▁🙂"] }],
  ["bools", { type: "array", of: "bool", value: Uint8Array.of(0, 1, 1) }],
  ["floats", { type: "array", of: "float32", value: Float32Array.of(1, 2.5, -3) }],
  ["longs", { type: "array", of: "int64", value: BigInt64Array.of(1n, -2n) }],
]);

/** Blocks of every supported type, with bytes that are no multiple of the alignment. */
function blocks(seed: number, name: string, shape: readonly number[]) {
  const next = seededInts(seed);
  const type = ggmlType(name);
  const count = (shape.reduce((a, b) => a * b, 1) / type.blockElements) * type.blockBytes;
  return { name: `t.${name}`, type, shape, data: Uint8Array.from({ length: count }, () => next(256)) };
}

const tensors = [
  blocks(1, "F32", [3]),
  blocks(2, "F16", [2, 5]),
  blocks(3, "BF16", [7]),
  blocks(4, "Q8_0", [3, 32]),
  blocks(5, "Q4_0", [2, 3, 64]),
  blocks(6, "Q6_K", [5, 256]),
];

describe("writeGguf", () => {
  test("what was written is read back, metadata and bytes", () => {
    const path = join(scratch, "all.gguf");
    writeGguf(path, metadata, tensors);
    using file = GgufFile.open(path);
    expect(file.version).toBe(3);
    expect(new Map(file.metadata.entries)).toEqual(metadata);
    expect([...file.tensors.keys()]).toEqual(tensors.map((t) => t.name));
    for (const { name, type, shape, data } of tensors) {
      const found = file.tensors.get(name)!;
      expect(found.type).toBe(type);
      expect(found.shape).toEqual(shape);
      expect(found.byteOffset % 32).toBe(0);
      const bytes = new Uint8Array(found.byteLength);
      file.readSync(bytes, found.byteOffset);
      expect(Buffer.compare(bytes, data)).toBe(0);
    }
  });

  test("the alignment that the metadata names is used", () => {
    const path = join(scratch, "aligned.gguf");
    writeGguf(path, new Map([["general.alignment", { type: "uint32", value: 4096 }]]), tensors);
    using file = GgufFile.open(path);
    for (const { byteOffset } of file.tensors.values()) expect(byteOffset % 4096).toBe(0);
    const none = join(scratch, "none.gguf");
    expect(
      thrownBy(() => writeGguf(none, new Map([["general.alignment", { type: "uint32", value: 0 }]]), [])),
    ).toBeInstanceOf(ArgumentError);
  });

  test("the same file in gives the same bytes out", () => {
    const path = join(scratch, "again.gguf");
    writeGguf(path, metadata, tensors);
    const once = readFileSync(path);
    using file = GgufFile.open(path);
    const copies = [...file.tensors.values()].map(({ name, type, shape, byteOffset, byteLength }) => ({
      name,
      type,
      shape,
      data: () => {
        const bytes = new Uint8Array(byteLength);
        file.readSync(bytes, byteOffset);
        return bytes;
      },
    }));
    const copy = join(scratch, "copy.gguf");
    writeGguf(copy, file.metadata.entries, copies);
    expect(Buffer.compare(readFileSync(copy), once)).toBe(0);
  });

  test("what does not fit is refused, and leaves no file", () => {
    const path = join(scratch, "refused.gguf");
    const one = tensors[0]!;
    const write = (changed: object) => thrownBy(() => writeGguf(path, new Map(), [{ ...one, ...changed }]));
    expect(write({ shape: [4] })).toBeInstanceOf(ShapeError);
    expect(write({ type: ggmlType("Q4_0"), shape: [48] })?.message).toMatch(/no multiple of the 32 elements/);
    expect(write({ name: "" })).toBeInstanceOf(ArgumentError);
    expect(thrownBy(() => writeGguf(path, new Map(), [one, one]))?.message).toMatch(/"t.F32" is given twice/);
    expect(thrownBy(() => writeGguf(join(scratch, "nowhere/x.gguf"), new Map(), []))).toBeInstanceOf(FileError);
    expect(readdirSync(scratch).filter((name) => name.includes("refused"))).toEqual([]);
  });

  test("a sink leaves no file where it cannot write, or cannot give the name", () => {
    const [under, taken] = [join(scratch, "file/x.gguf"), join(scratch, "taken.gguf")];
    writeFileSync(join(scratch, "file"), "");
    expect(thrownBy(() => new GgufSink(under, new Map(), []))).toBeInstanceOf(FileError);
    mkdirSync(join(taken, "full"), { recursive: true });
    using sink = new GgufSink(taken, new Map(), []);
    expect(thrownBy(() => sink.finish())).toBeInstanceOf(FileError);
    sink.dispose();
    expect(readdirSync(scratch).filter((name) => name.includes(".tmp"))).toEqual([]);
  });
});
