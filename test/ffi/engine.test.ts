import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { FfiEngine, NativeLibrary } from "../../src/ffi/engine.ts";
import { ffiEngine } from "../../src/ffi/select.ts";
import { NativeStub, noCompiler } from "../support/native.ts";

/** What ffi-rs is without: it is an optional dependency. */
function engineOrReason(name: string): { engine?: FfiEngine; reason?: string } {
  try {
    return { engine: ffiEngine(name) };
  } catch (error) {
    return { reason: (error as Error).message };
  }
}

test("an unknown engine is named together with the known ones", () => {
  expect(() => ffiEngine("node-ffi")).toThrow(/LLCUDA_FFI: unknown engine "node-ffi"; use koffi or ffi-rs/);
});

test("koffi, the default, is installed", () => {
  expect(engineOrReason("koffi").reason).toBe(undefined);
});

for (const name of ["koffi", "ffi-rs"]) {
  const { engine: found, reason } = engineOrReason(name);
  const missing = noCompiler ?? reason;

  describe(`engine ${name}${missing === undefined ? "" : ` (skipped: ${missing})`}`, () => {
    const testHere = test.skipIf(missing !== undefined);
    const engine = found as FfiEngine;
    let stub: NativeStub;
    let library: NativeLibrary;

    beforeAll(() => {
      if (missing !== undefined) return;
      stub = new NativeStub();
      library = engine.open(stub.build("ffi/stub.c", `libstub-${name}.so`));
    });
    afterAll(() => stub?.remove());

    const bind = (
      symbol: string,
      ...signature: Parameters<NativeLibrary["bind"]> extends [string, ...infer S] ? S : never
    ) => library.bind(symbol, ...signature)!;

    testHere("its name is the one it was asked for by", () => {
      expect(engine.name).toBe(name as "koffi");
    });

    testHere("integers keep their sign and all their bits", () => {
      const i32 = bind("same_i32", "i32", ["i32"]);
      for (const v of [0, 1, -1, 2 ** 31 - 1, -(2 ** 31)]) expect(i32(v)).toBe(v);
      const u32 = bind("same_u32", "u32", ["u32"]);
      for (const v of [0, 1, 2 ** 31, 2 ** 32 - 1]) expect(u32(v)).toBe(v);
      const usize = bind("same_usize", "usize", ["usize"]);
      for (const v of [0, 1, 2 ** 32, 2 ** 40 + 1, Number.MAX_SAFE_INTEGER]) expect(usize(v)).toBe(v);
    });

    testHere("pointers are bigints: null, small, and above 2^53 and 2^63", () => {
      const same = bind("same_ptr", "ptr", ["ptr"]);
      for (const p of [0n, 1n, 0x7fff_1234_5678n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 16n]) expect(same(p)).toBe(p);
    });

    testHere("a call may have no arguments and no result", () => {
      const before = bind("calls_so_far", "i32", [])() as number;
      expect(bind("count_call", "void", [])()).toBe(undefined);
      expect(bind("calls_so_far", "i32", [])()).toBe(before + 1);
    });

    testHere("eleven arguments of mixed types arrive in their places", () => {
      const args = ["u32", "i32", "usize", "ptr", "u32", "u32", "u32", "u32", "ptr", "ptr", "usize"] as const;
      const weigh = bind("weigh", "u32", args);
      const sum = weigh(100, -2, 2 ** 32 * 9, 5n << 32n, 2, 3, 4, 5, 1000n, 0xffn << 56n, 6);
      const expected = 100 - 6 + 45 + 35 + 22 + 39 + 68 + 95 + 23000 + 29 * 0xff + 186;
      expect(sum).toBe(expected);
    });

    testHere("a missing symbol is undefined, not a crash and not a function", () => {
      expect(library.bind("no_such_symbol", "i32", [])).toBe(undefined);
    });

    testHere("a missing library throws with the file's name or the loader's words", () => {
      expect(() => engine.open("libllcuda-does-not-exist.so.1")).toThrow(/cannot open|no such|not found/i);
    });

    testHere("allocated memory is zeroed, 64-byte aligned, and the same bytes for both sides", () => {
      for (const bytes of [1, 8, 100, 4096, 1 << 20]) {
        const block = engine.alloc(bytes);
        expect(block.address % 64n).toBe(0n);
        expect(block.buffer.byteLength).toBe(bytes);
        expect(new Uint8Array(block.buffer).every((b) => b === 0)).toBe(true);
      }
      const out = engine.alloc(16);
      const status = bind("api_divide", "i32", ["i32", "i32", "ptr", "ptr"])(-17, 5, out.address, out.address + 8n);
      const view = new DataView(out.buffer);
      expect([status, view.getInt32(0, true), view.getInt32(8, true)]).toEqual([0, -3, -2]);
    });

    testHere("memory of nothing at all is allowed", () => {
      expect(engine.alloc(0).buffer.byteLength).toBe(0);
      expect(engine.view(0n, 0).byteLength).toBe(0);
    });

    testHere("a view shows native memory in both directions", () => {
      const address = bind("owned_memory", "ptr", [])() as bigint;
      const bytes = new Uint8Array(engine.view(address, 16));
      expect([...bytes.subarray(0, 4)]).toEqual([1, 2, 3, 0]);
      bytes[15] = 200;
      expect(bind("owned_at", "i32", ["i32"])(15)).toBe(200);
    });

    testHere("the same memory may be viewed twice", () => {
      const address = bind("owned_memory", "ptr", [])() as bigint;
      const first = new Uint8Array(engine.view(address, 16));
      const second = new Uint8Array(engine.view(address, 8));
      first[5] = 77;
      expect(second[5]).toBe(77);
    });

    testHere("strings are UTF-8", () => {
      expect(engine.readString(bind("greeting", "ptr", [])() as bigint)).toBe("grüß 👋");
    });
  });
}
