import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LibraryError } from "../../src/base/errors.ts";
import type { FfiEngine, NativeLibrary } from "../../src/ffi/engine.ts";
import type { Handle, ModuleHandle } from "../../src/ffi/handles.ts";
import { ffiEngine } from "../../src/ffi/select.ts";
import { type Bound, bind, fn, raw } from "../../src/ffi/table.ts";
import { cstring, f32, handle, i32, out, pointer, usize } from "../../src/ffi/types.ts";
import { NativeStub, noCompiler } from "../support/native.ts";

const thing = handle<"Thing">();
const table = {
  divide: fn("api_divide", "1.0", i32, i32, out(i32), out(i32)),
  allocate: fn("api_allocate", "1.0", out(thing), usize),
  elapsed: fn("api_elapsed", "1.0", out(f32), thing),
  length: fn("api_length", "1.0", cstring, out(usize), cstring),
  status: fn("api_status", "1.0", i32),
  rawStatus: raw(i32, "api_status", "1.0", i32),
  same: raw(pointer, "same_ptr", "1.0", pointer),
  missing: fn("api_from_the_future", "99.1", i32),
} as const;

class Failed extends Error {}

describe(`bind${noCompiler === undefined ? "" : ` (skipped: ${noCompiler})`}`, () => {
  const testHere = test.skipIf(noCompiler !== undefined);
  let stub: NativeStub;
  let engine: FfiEngine;
  let library: NativeLibrary;
  let bound: Bound<typeof table>;

  beforeAll(() => {
    if (noCompiler !== undefined) return;
    engine = ffiEngine();
    stub = new NativeStub();
    library = engine.open(stub.build("ffi/stub.c", "libtable.so"));
    bound = bind(table, {
      engine,
      library,
      fail: (symbol, status) => {
        throw new Failed(`${symbol} ${status}`);
      },
      describe: () => "library 2.3",
    });
  });
  afterAll(() => stub?.remove());

  testHere("several out parameters come back as a tuple, one as itself, none as nothing", () => {
    expect(bound.calls.divide(-17, 5)).toEqual([-3, -2]);
    const made: Handle<"Thing"> = bound.calls.allocate(48);
    expect(made).toBe(0xfedcba9800000030n as Handle<"Thing">);
    expect(bound.calls.elapsed(made)).toBe(1.5);
    expect(bound.calls.status(0)).toBe(undefined);
  });

  testHere("a status that is not 0 goes to the failure function with its symbol", () => {
    expect(() => bound.calls.divide(1, 0)).toThrow("api_divide 7");
    expect(() => bound.calls.status(-3)).toThrow("api_status -3");
    expect(() => bound.calls.divide(1, 0)).toThrow(Failed);
  });

  testHere("the first call behaves as the later ones", () => {
    const fresh = bind(table, {
      engine,
      library,
      fail: () => {
        throw new Failed();
      },
      describe: () => "",
    });
    expect(() => fresh.calls.divide(1, 0)).toThrow(Failed);
    expect(fresh.calls.divide(9, 4)).toEqual([2, 1]);
  });

  testHere("a raw row returns what the function returns", () => {
    expect(bound.calls.rawStatus(600)).toBe(600);
    expect(bound.calls.same(2n ** 60n)).toBe(2n ** 60n);
  });

  testHere("strings go in as UTF-8, of any length and several at once", () => {
    expect(bound.calls.length("abc", "xy")).toBe(302);
    expect(bound.calls.length("ü", "")).toBe(200);
    expect(bound.calls.length("k".repeat(5000), "z".repeat(7))).toBe(500007);
  });

  testHere("a missing symbol is reported on use: symbol, version, what is loaded", () => {
    expect(bound.has("missing")).toBe(false);
    expect(bound.has("divide")).toBe(true);
    expect(() => bound.calls.missing(1)).toThrow(LibraryError);
    expect(() => bound.calls.missing(1)).toThrow(
      /api_from_the_future: not in .*libtable\.so \(library 2\.3\); it came with CUDA 99\.1/,
    );
  });

  test("handles of different kinds cannot be confused", () => {
    const module = 1n as ModuleHandle;
    const misuse = (): void => {
      // @ts-expect-error a module is not a Thing
      bound.calls.elapsed(module);
      // @ts-expect-error a plain address is not one either
      bound.calls.elapsed(1n);
      // @ts-expect-error sizes are numbers
      bound.calls.allocate(1n);
    };
    expect(typeof misuse).toBe("function"); // The type checker is the test.
  });
});
