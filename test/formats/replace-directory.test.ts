import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ArgumentError, FileError } from "../../src/base/errors.ts";
import { checkDestination, replaceDirectory } from "../../src/formats/replace-directory.ts";
import { systemErrors } from "../../src/formats/replace-file.ts";

let root = "";
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "llcuda-replace-"));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const fill = (text: string) => async (directory: string) => writeFileSync(join(directory, "config.json"), text);
const contentOf = (directory: string) => readFileSync(join(directory, "config.json"), "utf8");

describe("replaceDirectory", () => {
  test("makes a folder, and those above it", async () => {
    await replaceDirectory(join(root, "a/b"), {}, fill("new"));
    expect(contentOf(join(root, "a/b"))).toBe("new");
    expect(readdirSync(join(root, "a"))).toEqual(["b"]);
  });

  test("fills an empty folder; a model stays unless force is given", async () => {
    const path = join(root, "model");
    mkdirSync(path);
    await replaceDirectory(path, {}, fill("first"));
    await expect(replaceDirectory(path, {}, fill("second"))).rejects.toThrow(/exists already/);
    expect(contentOf(path)).toBe("first");
    await replaceDirectory(path, { force: true }, fill("second"));
    expect(contentOf(path)).toBe("second");
    expect(readdirSync(root)).toEqual(["model"]);
  });

  test("a folder that holds no model is never replaced", async () => {
    const path = join(root, "thesis");
    mkdirSync(path);
    writeFileSync(join(path, "chapter-1.txt"), "");
    await expect(replaceDirectory(path, { force: true }, fill("x"))).rejects.toThrow(ArgumentError);
    expect(readdirSync(path)).toEqual(["chapter-1.txt"]);
  });

  test("a failure leaves what was there, and nothing else", async () => {
    const path = join(root, "model");
    await replaceDirectory(path, {}, fill("old"));
    const failing = replaceDirectory(path, { force: true }, async (directory) => {
      await fill("half")(directory);
      throw new Error("power cut");
    });
    await expect(failing).rejects.toThrow("power cut");
    expect(contentOf(path)).toBe("old");
    expect(readdirSync(root)).toEqual(["model"]);
  });

  test("a failure leaves no folders above it, but those that somebody else uses", async () => {
    const failing = (path: string, more = () => {}) =>
      replaceDirectory(join(root, path), {}, async (directory) => {
        await fill("half")(directory);
        more();
        throw new Error("power cut");
      });
    await expect(failing("a/b/model")).rejects.toThrow("power cut");
    expect(readdirSync(root)).toEqual([]);
    await expect(failing("a/b/model", () => writeFileSync(join(root, "a/other"), ""))).rejects.toThrow("power cut");
    expect(readdirSync(join(root, "a"))).toEqual(["other"]);
  });

  test("a file in it that fails is named as it would have been called", async () => {
    const path = join(root, "model");
    const failing = replaceDirectory(path, {}, async (directory) => {
      systemErrors(join(directory, "x"), () => writeFileSync(join(directory, "no/x"), ""));
    });
    await expect(failing).rejects.toThrow(`${join(path, "x")}: writing failed: there is no such directory (ENOENT)`);
    expect(readdirSync(root)).toEqual([]);
  });

  test("a place that cannot be written to is named, with the reason", async () => {
    writeFileSync(join(root, "file"), "");
    const failing = replaceDirectory(join(root, "file/model"), {}, fill("x"));
    await expect(failing).rejects.toThrow(FileError);
    await expect(failing).rejects.toThrow(
      /file\/model: writing failed: a part of the path is no directory \(ENOTDIR\)/,
    );
    await expect(replaceDirectory("", {}, fill("x"))).rejects.toThrow(/the destination has no name/);
  });

  // There `mkdir -p` of Node tries for ever.
  test.skipIf(process.platform !== "linux")("a file system that takes no folders is no reason to hang", async () => {
    await expect(replaceDirectory("/proc/llcuda/model", {}, fill("x"))).rejects.toThrow(/writing failed: .*\(ENOENT\)/);
  });
});

describe("checkDestination", () => {
  test("refuses the source, also by another name, and what holds it", () => {
    const source = join(root, "models/a");
    mkdirSync(source, { recursive: true });
    writeFileSync(join(source, "config.json"), "{}");
    symlinkSync(join(root, "models"), join(root, "link"));
    for (const path of [source, join(root, "models"), join(root, "link/a"), join(source, "../a")]) {
      expect(() => checkDestination(path, "directory", { force: true, source })).toThrow(/model that is being read/);
    }
    expect(() => checkDestination(join(source, "a.gguf"), "file", { source: [source] })).not.toThrow();
    expect(existsSync(source)).toBe(true);
  });

  test("a file where a folder is to be, and the other way round", () => {
    writeFileSync(join(root, "x"), "");
    expect(() => checkDestination(join(root, "x"), "directory", { force: true })).toThrow(
      /there is a file of this name/,
    );
    expect(() => checkDestination(root, "file", { force: true })).toThrow(/there is a directory of this name/);
    expect(() => checkDestination(join(root, "x"), "file", {})).toThrow(/exists already/);
    expect(() => checkDestination(join(root, "x"), "file", { force: true })).not.toThrow();
  });
});
