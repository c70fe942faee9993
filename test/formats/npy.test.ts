import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { LlcudaError } from "../../src/base/errors.ts";
import { readNpy, writeNpy } from "../../src/formats/npy.ts";
import { mutate, seededInts } from "./support.ts";

const folder = mkdtempSync(join(tmpdir(), "llcuda-npy-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function write(name: string, header: string, data: Uint8Array, version = 1): string {
  const length = Buffer.alloc(version === 1 ? 2 : 4);
  if (version === 1) length.writeUInt16LE(header.length);
  else length.writeUInt32LE(header.length);
  const path = join(folder, name);
  const prefix = Buffer.concat([Buffer.from("\x93NUMPY", "latin1"), Buffer.from([version, 0]), length]);
  writeFileSync(path, Buffer.concat([prefix, Buffer.from(header, "latin1"), data]));
  return path;
}

const floats = new Uint8Array(Float32Array.of(1, -2, 0.5, Number.NaN, 4, 5).buffer);

describe("npy files", () => {
  test("what was written is read again, whatever the shape", () => {
    for (const shape of [[6], [2, 3], [1, 6, 1]]) {
      const path = join(folder, "round.npy");
      writeNpy(path, { descr: "<f4", shape, data: floats });
      expect(readNpy(path)).toEqual({ descr: "<f4", shape, data: floats });
      const file = readFileSync(path);
      expect((file.length - floats.length) % 64).toBe(0);
    }
    const path = join(folder, "scalar.npy");
    writeNpy(path, { descr: "|u1", shape: [], data: Uint8Array.of(7) });
    expect(readNpy(path)).toEqual({ descr: "|u1", shape: [], data: Uint8Array.of(7) });
  });

  test("the bytes are those that numpy.save writes", () => {
    const path = join(folder, "exact.npy");
    writeNpy(path, { descr: "<f4", shape: [2, 3], data: floats });
    // numpy.save of a float32 array of shape (2, 3), NumPy 1.26: a header of 118 bytes.
    const header = `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }${" ".repeat(58)}\n`;
    expect(readFileSync(path).subarray(0, 128).toString("latin1")).toBe(`\x93NUMPY\x01\x00\x76\x00${header}`);
  });

  test("version 2 and a header without padding", () => {
    const path = write("v2.npy", "{'descr': '<f4', 'fortran_order': False, 'shape': (6,), }", floats, 2);
    expect(readNpy(path).shape).toEqual([6]);
  });

  test("what cannot be read says why", () => {
    const header = (descr: string, order: string, shape: string) =>
      `{'descr': ${descr}, 'fortran_order': ${order}, 'shape': ${shape}, }\n`;
    const refused: [string, RegExp][] = [
      [write("order.npy", header("'<f4'", "True", "(2, 3)"), floats), /Fortran order/],
      [write("big.npy", header("'>f4'", "False", "(6,)"), floats), /big-endian/],
      [write("short.npy", header("'<f4'", "False", "(7,)"), floats), /takes 28 bytes, but 24 follow/],
      [write("text.npy", header("'<U4'", "False", "(6,)"), floats), /not numbers/],
      [write("record.npy", header("[('a', '<f4')]", "False", "(6,)"), floats), /one plain array/],
    ];
    writeFileSync(join(folder, "none.npy"), "hello, this is text");
    refused.push([join(folder, "none.npy"), /no \.npy file/], [join(folder, "absent.npy"), /no such file/]);
    for (const [path, reason] of refused) expect(() => readNpy(path)).toThrow(reason);
  });

  test("damaged files are read or refused, never anything else", () => {
    const path = join(folder, "fuzz.npy");
    writeNpy(path, { descr: "<f4", shape: [2, 3], data: floats });
    const whole = new Uint8Array(readFileSync(path));
    const next = seededInts(5);
    for (let i = 0; i < 500; i++) {
      writeFileSync(path, mutate(whole, next));
      try {
        readNpy(path);
      } catch (error) {
        expect(error).toBeInstanceOf(LlcudaError);
      }
    }
  });
});
