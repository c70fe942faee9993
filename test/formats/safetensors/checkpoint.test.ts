import {
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ArgumentError, FileError, FormatError, StateError, UnsupportedError } from "../../../src/base/errors.ts";
import { openCheckpoint, openFiles } from "../../../src/formats/safetensors/checkpoint.ts";
import { SafetensorsFile } from "../../../src/formats/safetensors/file.ts";
import { writeCheckpoint } from "../../../src/formats/safetensors/write.ts";
import { shard, thrownBy } from "../support.ts";

const fixtures = join(import.meta.dirname, "../../fixtures");
let scratch = "";
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "llcuda-checkpoint-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** A fresh directory with an index of these entries, and one shard `a.safetensors` that holds tensor "x". */
function withIndex(name: string, index: unknown): string {
  const directory = join(scratch, name);
  writeCheckpoint(directory, [{ name: "x", dtype: "float32", shape: [2], data: new Float32Array(2) }]);
  const bytes = readFileSync(join(directory, "model.safetensors"));
  rmSync(join(directory, "model.safetensors"));
  writeFileSync(join(directory, "a.safetensors"), bytes);
  writeFileSync(
    join(directory, "model.safetensors.index.json"),
    typeof index === "string" ? index : JSON.stringify(index),
  );
  return directory;
}

describe("openCheckpoint", () => {
  test("a single file lists its tensors and reads ranges of them", async () => {
    using weights = openCheckpoint(join(fixtures, "llama3-gqa-bf16"));
    expect(weights.tensors.size).toBe(21);
    const info = weights.tensors.get("model.embed_tokens.weight")!;
    expect(info.dtype).toBe("BF16");
    expect(info.elementType?.name).toBe("bfloat16");
    expect(info.shape).toEqual([320, 128]);
    const file = readFileSync(info.file);
    const whole = file.subarray(info.byteOffset, info.byteOffset + info.byteLength);
    expect(Buffer.compare(weights.read(info.name), whole)).toBe(0);
    const sync = new Uint8Array(1000);
    weights.readIntoSync(info, 777, sync);
    expect(Buffer.compare(sync, whole.subarray(777, 1777))).toBe(0);
    const async = new Uint8Array(1000);
    await weights.readInto(info, 777, async);
    expect(Buffer.compare(async, sync)).toBe(0);
  });

  test("shards read as one source", () => {
    const directory = join(scratch, "shards");
    shard(join(fixtures, "llama3-gqa-bf16"), directory, 200_000);
    using whole = openCheckpoint(join(fixtures, "llama3-gqa-bf16"));
    using weights = openCheckpoint(directory);
    expect([...weights.tensors.keys()].sort()).toEqual([...whole.tensors.keys()].sort());
    const files = new Set([...weights.tensors.values()].map((t) => t.file));
    expect(files.size).toBe(5);
    for (const name of whole.tensors.keys()) {
      expect(Buffer.compare(weights.read(name), whole.read(name))).toBe(0);
    }
    expect(weights.totalBytes).toBe(whole.totalBytes);
  });

  test("the demonstration model opens", () => {
    using weights = openCheckpoint(join(fixtures, "../../models/demo"));
    expect(weights.tensors.size).toBe(38);
  });

  test("ranges outside a tensor, unknown names, and use after close are refused", async () => {
    const weights = openCheckpoint(join(fixtures, "qwen2-bias"));
    const info = [...weights.tensors.values()][0]!;
    const target = new Uint8Array(8);
    expect(thrownBy(() => weights.readIntoSync(info, info.byteLength - 7, target))).toBeInstanceOf(ArgumentError);
    expect(thrownBy(() => weights.readIntoSync(info, -1, target))).toBeInstanceOf(ArgumentError);
    expect(thrownBy(() => weights.read("absent"))).toBeInstanceOf(ArgumentError);
    weights.close();
    weights.close();
    expect(thrownBy(() => weights.readIntoSync(info, 0, target))).toBeInstanceOf(StateError);
    const rejected = await weights.readInto(info, 0, target).catch((e: unknown) => e);
    expect(rejected).toBeInstanceOf(StateError);
  });

  test("a file that shrinks while it is open is named", () => {
    const directory = join(scratch, "shrinks");
    writeCheckpoint(directory, [{ name: "x", dtype: "uint8", shape: [4096], data: new Uint8Array(4096) }]);
    const path = join(directory, "model.safetensors");
    using file = SafetensorsFile.open(path);
    writeFileSync(path, readFileSync(path).subarray(0, 1000));
    const error = thrownBy(() => file.read("x"));
    expect(error).toBeInstanceOf(FormatError);
    expect((error as FormatError).byteOffset).toBe(1000);
  });

  test("positions beyond 4 GiB are exact", async () => {
    const path = join(scratch, "large.safetensors");
    const size = 5 * 2 ** 30;
    const header = JSON.stringify({ x: { dtype: "U8", shape: [size], data_offsets: [0, size] } });
    const head = Buffer.concat([Buffer.alloc(8), Buffer.from(header)]);
    head.writeBigUInt64LE(BigInt(header.length));
    writeFileSync(path, head);
    truncateSync(path, head.length + size); // sparse: takes no room
    const fd = openSync(path, "r+");
    writeSync(fd, Uint8Array.of(1, 2, 3), 0, 3, head.length + size - 3);
    closeSync(fd);
    using file = SafetensorsFile.open(path);
    const target = new Uint8Array(4);
    file.readIntoSync(file.tensors.get("x")!, size - 4, target);
    expect(target).toEqual(Uint8Array.of(0, 1, 2, 3));
    await file.readInto(file.tensors.get("x")!, size - 3, target.subarray(0, 3));
    expect(target).toEqual(Uint8Array.of(1, 2, 3, 3));
    file.close();
    rmSync(path);
  });

  test("directories without weights say what is missing", () => {
    const message = (path: string) => thrownBy(() => openCheckpoint(path))?.message ?? "";
    expect(message(join(scratch, "nowhere"))).toMatch(/there is no such directory/);
    const file = join(scratch, "file");
    writeFileSync(file, "");
    expect(message(file)).toMatch(/expected a model directory/);
    expect(message(join(file, "below"))).toMatch(/there is no such directory/);
    expect(message(join(fixtures, "tok-qwen"))).toMatch(/there are no weights/);
    const other = withIndex("other", {});
    rmSync(join(other, "model.safetensors.index.json"));
    writeFileSync(join(other, "pytorch_model.bin"), "");
    expect(thrownBy(() => openCheckpoint(other))).toBeInstanceOf(UnsupportedError);
    expect(message(other)).toMatch(/pytorch_model\.bin; convert/);
    writeFileSync(join(other, "adapter_model.safetensors"), "");
    expect(message(other)).toMatch(/LoRA adapter/);
  });

  test("openFiles refuses one name in two files", () => {
    const a = join(withIndex("twice-a", {}), "a.safetensors");
    const b = join(withIndex("twice-b", {}), "a.safetensors");
    expect(thrownBy(() => openFiles([a, b]))?.message).toMatch(/tensor "x" is also in/);
  });
});

describe("the index of the shards", () => {
  test.each([
    ["no JSON", "{", /not valid JSON/],
    ["an array", "[]", /must be a JSON object/],
    ["no weight_map", {}, /weight_map must map tensors to files, got nothing/],
    ["an empty weight_map", { weight_map: {} }, /names no tensors/],
    ["a number for a file", { weight_map: { x: 1 } }, /is placed in 1; expected the name of a file/],
    ["a way up", { weight_map: { x: "../a.safetensors" } }, /is placed in "\.\.\/a\.safetensors"/],
    ["a way up on Windows", { weight_map: { x: "..\\a.safetensors" } }, /expected the name of a file in the same/],
    ["an absolute path", { weight_map: { x: "/etc/a.safetensors" } }, /expected the name of a file in the same/],
    ["a drive", { weight_map: { x: "C:a.safetensors" } }, /expected the name of a file in the same/],
    ["a NUL", { weight_map: { x: "a\0.safetensors" } }, /expected the name of a file in the same/],
    ["dots", { weight_map: { x: ".." } }, /expected the name of a file in the same/],
    ["another format", { weight_map: { x: "a.bin" } }, /is not a safetensors file/],
    ["a key twice", '{"weight_map": {"x": "a.safetensors", "x": "a.safetensors"}}', /has the key "x" twice/],
    ["a missing shard", { weight_map: { x: "b.safetensors" } }, /there is no such file, though .* names it/],
    ["a missing tensor", { weight_map: { y: "a.safetensors" } }, /places tensor "y" in a\.safetensors/],
    ["a prototype's name", { weight_map: { toString: "a.safetensors" } }, /places tensor "toString"/],
  ])("with %s is refused", (name, index, message) => {
    const directory = withIndex(`index ${name}`.replaceAll(" ", "-"), index);
    const error = thrownBy(() => openCheckpoint(directory));
    expect(error?.message).toMatch(message);
    expect([FormatError, FileError, UnsupportedError].some((type) => error instanceof type)).toBe(true);
  });

  test("a sound one opens", () => {
    using weights = openCheckpoint(withIndex("sound", { metadata: {}, weight_map: { x: "a.safetensors" } }));
    expect([...weights.tensors.keys()]).toEqual(["x"]);
  });
});
