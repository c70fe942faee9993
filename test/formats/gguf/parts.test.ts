import { mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FileError, FormatError } from "../../../src/base/errors.ts";
import { ggmlType } from "../../../src/base/ggml.ts";
import { GgufParts, ggufModels } from "../../../src/formats/gguf/parts.ts";
import type { GgufValue } from "../../../src/formats/gguf/values.ts";
import { writeGguf } from "../../../src/formats/gguf/write.ts";
import { thrownBy } from "../support.ts";

let scratch = "";
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "llcuda-parts-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

interface Part {
  readonly no?: number;
  readonly count?: number;
  readonly tensors: readonly string[];
}

const size = (value: number): GgufValue => ({ type: "uint16", value });

/** A model in parts, each with what it says of itself, true or not; returns the paths. */
function parts(folder: string, list: readonly Part[], total?: number): string[] {
  const directory = join(scratch, folder);
  mkdirSync(directory);
  return list.map(({ no, count = list.length, tensors }, i) => {
    const metadata = new Map<string, GgufValue>([
      ["split.no", size(no ?? i)],
      ["split.count", size(count)],
    ]);
    if (i === 0) metadata.set("general.name", { type: "string", value: "first" });
    if (total !== undefined) metadata.set("split.tensors.count", { type: "int32", value: total });
    const number = (n: number) => String(n).padStart(5, "0");
    const path = join(directory, `m-${number(i + 1)}-of-${number(list.length)}.gguf`);
    const data = Float32Array.of(i);
    writeGguf(
      path,
      metadata,
      tensors.map((name) => ({ name, type: ggmlType("F32"), shape: [1], data })),
    );
    return path;
  });
}

const message = (path: string) => thrownBy(() => GgufParts.open(path))?.message ?? "";

describe("a model in parts", () => {
  test("opens whole, whichever part is named", () => {
    const paths = parts("sound", [{ tensors: [] }, { tensors: ["b", "a"] }, { tensors: ["c"] }], 3);
    for (const path of paths) {
      using model = GgufParts.open(path);
      expect(model.path).toBe(paths[0]);
      expect(model.metadata.find("text", "general.name")).toBe("first");
      expect([...model.tensors.keys()]).toEqual(["b", "a", "c"]);
      expect(model.fileOf(model.tensors.get("c")!.file).path).toBe(paths[2]);
    }
  });

  test("a part that is missing is named", () => {
    const paths = parts("missing", [{ tensors: ["a"] }, { tensors: ["b"] }]);
    rmSync(paths[1]!);
    expect(thrownBy(() => GgufParts.open(paths[0]!))).toBeInstanceOf(FileError);
    expect(message(paths[0]!)).toMatch(/m-00002-of-00002\.gguf: there is no such file, though .* download all parts/);
  });

  test("parts that do not belong together are refused", () => {
    expect(message(parts("order", [{ tensors: ["a"] }, { no: 0, tensors: ["b"] }])[0]!)).toMatch(
      /says part 1 of 2, its/,
    );
    expect(message(parts("others", [{ tensors: ["a"] }, { count: 3, tensors: ["b"] }])[0]!)).toMatch(/part 2 of 3/);
    expect(message(parts("twice", [{ tensors: ["a"] }, { tensors: ["a"] }])[0]!)).toMatch(/tensor "a" is also in/);
    const [short] = parts("count", [{ tensors: ["a"] }, { tensors: ["b"] }], 5);
    expect(thrownBy(() => GgufParts.open(short!))).toBeInstanceOf(FormatError);
    expect(message(short!)).toMatch(/the parts hold 2 tensors, but split.tensors.count says 5/);
  });

  test("a part with another name cannot find the rest", () => {
    const [first] = parts("renamed", [{ tensors: ["a"] }, { tensors: ["b"] }]);
    const renamed = join(scratch, "renamed", "model.gguf");
    renameSync(first!, renamed);
    expect(message(renamed)).toMatch(/one of 2 parts, but its name does not end in/);
  });
});

test("the models of a folder are single files and first parts, without projectors", () => {
  const names = ["b.gguf", "a-00002-of-00002.gguf", "a-00001-of-00002.gguf", "mmproj-b.gguf", "config.json"];
  expect(ggufModels(names)).toEqual(["a-00001-of-00002.gguf", "b.gguf"]);
});
