import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ArgumentError, FileError, ShapeError } from "../../../src/base/errors.ts";
import { openCheckpoint } from "../../../src/formats/safetensors/checkpoint.ts";
import { SafetensorsFile } from "../../../src/formats/safetensors/file.ts";
import { type TensorToWrite, writeCheckpoint, writeSafetensors } from "../../../src/formats/safetensors/write.ts";
import { thrownBy } from "../support.ts";

let scratch = "";
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "llcuda-write-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const bytes = (...values: number[]) => Uint8Array.from(values);
const tensors: TensorToWrite[] = [
  { name: "u", dtype: "uint8", shape: [3], data: bytes(1, 2, 3) },
  { name: "10", dtype: "float32", shape: [2], data: new Float32Array([1.5, -2]) },
  { name: "empty", dtype: "int64", shape: [0, 4], data: new BigInt64Array(0) },
  { name: "half", dtype: "bfloat16", shape: [1, 2], data: () => Uint16Array.of(0x3f80, 0x4000) },
  { name: "9", dtype: "float32", shape: [], data: new Float32Array([7]) },
  { name: 'quo"te\n', dtype: "bool", shape: [1], data: bytes(1) },
];

describe("writeSafetensors", () => {
  test("what is written is read again, aligned, the widest elements first", () => {
    const path = join(scratch, "a.safetensors");
    writeSafetensors(path, tensors, { z: "last", a: "first" });
    using file = SafetensorsFile.open(path);
    expect([...file.tensors.keys()]).toEqual(["empty", "10", "9", "half", 'quo"te\n', "u"]);
    expect(file.metadata).toEqual({ a: "first", z: "last" });
    for (const info of file.tensors.values()) expect(info.byteOffset % (info.elementType?.bytes ?? 1)).toBe(0);
    expect(Number(readFileSync(path).readBigUInt64LE()) % 8).toBe(0);
    expect(file.read("u")).toEqual(bytes(1, 2, 3));
    expect(new Float32Array(file.read("10").buffer)).toEqual(new Float32Array([1.5, -2]));
    expect(file.read("half")).toEqual(bytes(0x80, 0x3f, 0, 0x40));
  });

  test("the same tensors give the same bytes, in whatever order they come", () => {
    const [a, b] = [join(scratch, "b1.safetensors"), join(scratch, "b2.safetensors")];
    writeSafetensors(a, tensors);
    writeSafetensors(b, [...tensors].reverse());
    expect(Buffer.compare(readFileSync(a), readFileSync(b))).toBe(0);
  });

  test("a view into a larger buffer writes only its part", () => {
    const path = join(scratch, "view.safetensors");
    const buffer = Float32Array.of(1, 2, 3, 4);
    writeSafetensors(path, [{ name: "x", dtype: "float32", shape: [2], data: buffer.subarray(1, 3) }]);
    using file = SafetensorsFile.open(path);
    expect(new Float32Array(file.read("x").buffer)).toEqual(Float32Array.of(2, 3));
  });

  test("a failure leaves the old file and nothing else", () => {
    const directory = mkdtempSync(join(scratch, "atomic-"));
    const path = join(directory, "x.safetensors");
    writeFileSync(path, "old");
    const wrong: TensorToWrite = { name: "x", dtype: "float32", shape: [3], data: new Float32Array(2) };
    const error = thrownBy(() => writeSafetensors(path, [wrong]));
    expect(error).toBeInstanceOf(ShapeError);
    expect(error?.message).toMatch(/"x" float32 \[3\] needs 12 bytes, got 8/);
    expect(readFileSync(path, "utf8")).toBe("old");
    expect(readdirSync(directory)).toEqual(["x.safetensors"]);
  });

  test("names given twice or reserved, and a place that does not exist", () => {
    const one = tensors[0]!;
    expect(thrownBy(() => writeSafetensors(join(scratch, "c"), [one, one]))).toBeInstanceOf(ArgumentError);
    const reserved = { ...one, name: "__metadata__" };
    expect(thrownBy(() => writeSafetensors(join(scratch, "c"), [reserved]))).toBeInstanceOf(ArgumentError);
    expect(thrownBy(() => writeSafetensors(join(scratch, "no/where"), [one]))).toBeInstanceOf(FileError);
  });
});

describe("writeCheckpoint", () => {
  const many = Array.from({ length: 7 }, (_, i) => ({
    name: `layers.${i}`,
    dtype: "uint8" as const,
    shape: [10],
    data: new Uint8Array(10).fill(i),
  }));

  test("shards by size, with an index that the reader follows", () => {
    const directory = join(scratch, "sharded");
    const written = writeCheckpoint(directory, many, { maxShardBytes: 25 });
    expect(written.length).toBe(5);
    expect(readdirSync(directory).sort()[0]).toBe("model-00001-of-00004.safetensors");
    using weights = openCheckpoint(directory);
    expect(weights.totalBytes).toBe(70);
    for (let i = 0; i < 7; i++) expect(weights.read(`layers.${i}`)).toEqual(new Uint8Array(10).fill(i));
    const index = JSON.parse(readFileSync(written.at(-1)!, "utf8"));
    expect(index.metadata).toEqual({ total_size: 70 });
    expect(index.weight_map["layers.6"]).toBe("model-00004-of-00004.safetensors");
  });

  test("one file when all fits, and neither form shadows the other afterwards", () => {
    const directory = join(scratch, "replaced");
    writeCheckpoint(directory, many, { maxShardBytes: 30 });
    writeCheckpoint(directory, many.slice(0, 2));
    expect(existsSync(join(directory, "model.safetensors.index.json"))).toBe(false);
    using single = openCheckpoint(directory);
    expect(single.tensors.size).toBe(2);
    single.close();
    writeCheckpoint(directory, many, { maxShardBytes: 30 });
    using sharded = openCheckpoint(directory);
    expect(sharded.tensors.size).toBe(7);
  });

  test("a tensor larger than the limit has a shard of its own; a senseless limit is refused", () => {
    const written = writeCheckpoint(join(scratch, "large"), many.slice(0, 2), { maxShardBytes: 1 });
    expect(written.length).toBe(3);
    for (const maxShardBytes of [0, -1, Number.NaN]) {
      expect(thrownBy(() => writeCheckpoint(scratch, many, { maxShardBytes }))).toBeInstanceOf(ArgumentError);
    }
  });
});
