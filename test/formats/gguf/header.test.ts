import { describe, expect, test } from "vitest";
import { FormatError, UnsupportedError } from "../../../src/base/errors.ts";
import { parseGguf } from "../../../src/formats/gguf/header.ts";
import { thrownBy } from "../support.ts";
import { inMemory, RawGguf } from "./support.ts";

const huge = 2n ** 63n;

/** A header with one entry whose key is written and whose type and value follow. */
const entry = (key = "some.key") => RawGguf.header({ entries: 1n }).text(key);
const tensors = (count = 1) => RawGguf.header({ tensors: BigInt(count) });

describe("a sound file", () => {
  test("gives every type of metadata, with 64-bit integers as bigints", () => {
    const values = RawGguf.header({ entries: 8n })
      .text("a")
      .u32(8)
      .text("Grüße ▁🙂")
      .text("b")
      .u32(7)
      .raw(Uint8Array.of(1))
      .text("c")
      .u32(0)
      .raw(Uint8Array.of(200))
      .text("d")
      .u32(5)
      .u32(0xffffffff)
      .text("e")
      .u32(10)
      .u64(2n ** 60n)
      .text("f")
      .u32(6)
      .raw(new Uint8Array(Float32Array.of(0.1).buffer))
      .text("g")
      .u32(9)
      .u32(8)
      .u64(2n)
      .text("x")
      .text("")
      .text("h")
      .u32(9)
      .u32(5)
      .u64(3n)
      .raw(new Uint8Array(Int32Array.of(1, -2, 3).buffer));
    const { metadata } = parseGguf(values.source());
    expect(metadata.find("text", "a")).toBe("Grüße ▁🙂");
    expect(metadata.find("flag", "b")).toBe(true);
    expect(metadata.find("size", "c")).toBe(200);
    expect(metadata.find("number", "d")).toBe(-1);
    expect(metadata.entries.get("e")?.value).toBe(2n ** 60n);
    expect(metadata.find("number", "f")).toBe(Math.fround(0.1));
    expect(metadata.find("texts", "g")).toEqual(["x", ""]);
    expect(metadata.find("numbers", "h")).toEqual(Int32Array.of(1, -2, 3));
    expect(metadata.find("text", "absent")).toBeUndefined();
    expect(thrownBy(() => metadata.find("text", "b"))?.message).toBe(
      "test.gguf: metadata b is true (bool); expected a string",
    );
    expect(thrownBy(() => metadata.require("size", "d"))?.message).toMatch(
      /d is -1 \(int32\); expected an integer of at/,
    );
    expect(thrownBy(() => metadata.require("size", "z"))?.message).toMatch(/z is missing; expected an integer/);
  });

  test("gives tensors in the order of their bytes, with shapes reversed", () => {
    const sound = tensors(3).tensor("last", [4, 3], 0, 64).tensor("first", [32], 2, 0).tensor("scalar", [], 1, 32);
    const head = sound.bytes().length;
    const { tensors: found, dataOffset } = parseGguf(sound.data(112).source());
    expect(dataOffset).toBe(Math.ceil(head / 32) * 32);
    expect([...found.keys()]).toEqual(["first", "scalar", "last"]);
    expect(found.get("last")).toMatchObject({ shape: [3, 4], byteOffset: dataOffset + 64, byteLength: 48 });
    expect(found.get("first")!.type.name).toBe("Q4_0");
    expect(found.get("scalar")).toMatchObject({ shape: [], byteLength: 2 });
  });

  test("version 1 has 32-bit sizes", () => {
    const file = new RawGguf().raw(Buffer.from("GGUF")).u32(1).u32(1).u32(1);
    file.u32(1).raw(Buffer.from("k")).u32(8).u32(2).raw(Buffer.from("hi"));
    file.u32(1).raw(Buffer.from("t")).u32(2).u32(8).u32(2).u32(0).u64(0);
    const { metadata, tensors: found } = parseGguf(file.data(64).source());
    expect(metadata.find("text", "k")).toBe("hi");
    expect(found.get("t")).toMatchObject({ shape: [2, 8], byteLength: 64 });
  });

  test("a vocabulary larger than the reader's window", () => {
    const words = Array.from({ length: 150_000 }, (_, i) => `token-${i}-🙂`);
    const file = RawGguf.header({ entries: 2n }).text("words").u32(9).u32(8).u64(words.length);
    for (const word of words) file.text(word);
    const long = "é".repeat(800_000);
    file.text("long").u32(8).text(long);
    const { metadata } = parseGguf(file.source());
    expect(metadata.find("texts", "words")).toEqual(words);
    expect(metadata.find("text", "long")).toBe(long);
  });
});

describe("a malformed file is one sentence with the byte", () => {
  test.each<[string, RawGguf, RegExp]>([
    ["an empty file", new RawGguf(), /the header needs 4 bytes but 0 follow/],
    ["another magic", RawGguf.header({ magic: "GGUG" }), /does not begin with "GGUF".*\(at byte 0\)/],
    ["version 0", RawGguf.header({ version: 0 }), /the version is 0/],
    [
      "a header that is cut",
      new RawGguf().raw(Buffer.from("GGUF")).u32(3).u32(1),
      /the count of tensors needs 8 bytes/,
    ],
    ["-1 tensors", RawGguf.header({ tensors: -1n }), /count of tensors is 18446744073709551615, more than any file/],
    ["a million tensors", RawGguf.header({ tensors: 1_000_000n }), /count of tensors is 1000000, more than/],
    ["-1 entries", RawGguf.header({ entries: -1n }), /count of metadata entries is 18446744073709551615/],
    ["too many entries", RawGguf.header({ entries: 100_000n }), /count of metadata entries is 100000, more than/],
    [
      "fewer entries than announced",
      RawGguf.header({ entries: 2n }).entry("a", 1),
      /key of metadata entry 1 needs 8 bytes/,
    ],
    ["an endless key", RawGguf.header({ entries: 1n }).u64(huge), /key of metadata entry 0 is 9223372036854775808/],
    ["a long key", RawGguf.header({ entries: 1n }).u64(70_000), /key of metadata entry 0 has 70000 bytes/],
    ["an empty key", entry("").u32(4).u32(1), /key of metadata entry 0 has 0 bytes; expected 1/],
    ["a key of other bytes", RawGguf.header({ entries: 1n }).text(Uint8Array.of(0xff)).u32(4), /is not UTF-8/],
    ["a key twice", RawGguf.header({ entries: 2n }).entry("a", 1).entry("a", 2), /is "a", which there already is/],
    ["a type that is none", entry().u32(13).u32(0), /metadata "some.key" has type 13/],
    ["a bool of 2", entry().u32(7).raw(Uint8Array.of(2)), /holds 2 where a bool must be 0 or 1/],
    ["a string past the end", entry().u32(8).u64(100).raw(Buffer.from("short")), /needs 100 bytes but 5 follow/],
    [
      "a string of 2^62",
      entry()
        .u32(8)
        .u64(2n ** 62n),
      /is 4611686018427387904, more than any file/,
    ],
    ["an array past the end", entry().u32(9).u32(5).u64(1_000_000), /needs 4000000 bytes but 0 follow/],
    [
      "an array of 2^62",
      entry()
        .u32(9)
        .u32(5)
        .u64(2n ** 62n),
      /more than any file can hold/,
    ],
    [
      "an array of 2^52 strings",
      entry()
        .u32(9)
        .u32(8)
        .u64(2n ** 52n),
      /needs 18014398509481984 bytes/,
    ],
    ["an array of arrays", entry().u32(9).u32(9).u64(1), /array of arrays/],
    ["an array of type 99", entry().u32(9).u32(99).u64(1), /array of type 99/],
    ["an array with a bool of 3", entry().u32(9).u32(7).u64(2).raw(Uint8Array.of(1, 3)), /a bool that is neither/],
    [
      "alignment 0",
      RawGguf.header({ entries: 1n }).entry("general.alignment", 0),
      /general.alignment is 0; expected a/,
    ],
    ["alignment 48", RawGguf.header({ entries: 1n }).entry("general.alignment", 48), /general.alignment is 48/],
    [
      "a vast alignment",
      RawGguf.header({ entries: 1n }).entry("general.alignment", 2 ** 31),
      /is 2147483648; expected/,
    ],
    ["an alignment in words", entry("general.alignment").u32(8).text("32"), /general.alignment is "32" \(string\)/],
    ["a tensor without a name", tensors().tensor("", [32], 0, 0), /name of tensor 0 has 0 bytes/],
    [
      "five dimensions",
      tensors().tensor("t", [1, 1, 1, 1, 1], 0, 0),
      /tensor "t" has 5 dimensions; expected at most 4/,
    ],
    ["a dimension of 0", tensors().tensor("t", [32, 0], 0, 0), /tensor "t" has a dimension of size 0/],
    ["a dimension of -1", tensors().tensor("t", [-1n], 0, 0), /tensor "t" is 18446744073709551615/],
    ["sizes that overflow", tensors().tensor("t", [2 ** 30, 2 ** 30], 0, 0), /more elements than any file can hold/],
    ["type 99", tensors().tensor("t", [32], 99, 0), /tensor "t" has type 99, which ggml does not have/],
    ["a withdrawn type", tensors().tensor("t", [32], 31, 0), /tensor "t" has type 31/],
    ["rows of half a block", tensors().tensor("t", [48, 2], 2, 0), /\[2, 48\] has rows that are no multiple of the 32/],
    ["an odd offset", tensors().tensor("t", [32], 0, 8), /begins at 8, which is no multiple of the alignment 32/],
    [
      "an offset past the end",
      tensors().tensor("t", [32], 0, 2n ** 40n),
      /ends at byte 1099511627\d+ but the file has/,
    ],
    ["an offset of 2^63", tensors().tensor("t", [32], 0, huge), /more than any file can hold/],
    ["a name twice", tensors(2).tensor("t", [8], 0, 0).tensor("t", [8], 0, 32), /tensor "t" is listed twice/],
    [
      "overlapping tensors",
      tensors(2).tensor("a", [16], 0, 0).tensor("b", [8], 0, 32),
      /"b" overlaps tensor "a" by 32/,
    ],
    [
      "too little data",
      tensors().tensor("t", [1024], 0, 0),
      /ends at byte \d+ but the file has \d+ bytes; it is trunc/,
    ],
  ])("%s", (name, file, message) => {
    const needsRoom = /twice|overlapping/.test(name);
    const error = thrownBy(() => parseGguf((needsRoom ? file.data(256) : file).source()));
    expect(error).toBeInstanceOf(FormatError);
    expect(error!.message).toMatch(message);
    expect(error!.message).toMatch(/^test\.gguf: [^\n]+$/);
  });

  test("every cut of a file is refused", () => {
    const file = RawGguf.header({ tensors: 1n, entries: 1n }).entry("a", 1).tensor("t", [8], 0, 0).data(32).bytes();
    parseGguf(inMemory(file));
    for (let length = 0; length < file.length; length++) {
      expect(thrownBy(() => parseGguf(inMemory(file.subarray(0, length))))).toBeInstanceOf(FormatError);
    }
  });
});

describe("files of another kind are refused by name", () => {
  test.each<[string, RawGguf, RegExp]>([
    ["big-endian", RawGguf.header({ version: 0x03000000 }), /big-endian; use the little-endian one/],
    ["a later version", RawGguf.header({ version: 4 }), /GGUF version 4 is not supported; known are 1, 2 and 3/],
    ["before GGUF", RawGguf.header({ magic: "tjgg" }), /a GGML file from before GGUF/],
  ])("%s", (_, file, message) => {
    const error = thrownBy(() => parseGguf(file.source()));
    expect(error).toBeInstanceOf(UnsupportedError);
    expect(error!.message).toMatch(message);
  });
});
