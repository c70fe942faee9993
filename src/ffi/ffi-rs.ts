import { createRequire } from "node:module";
import type * as ffiRs from "ffi-rs";
import { LibraryError } from "../base/errors.ts";
import { blockAllocator, type FfiEngine, type NativeFunction, type NativeLibrary, type ScalarType } from "./engine.ts";

type FfiRs = typeof ffiRs;

/** The ffi-rs engine: a second way into C, for hosts where koffi does not load. A call costs microseconds. */
export function ffiRsEngine(): FfiEngine {
  const ffi = loadFfiRs();
  const T = ffi.DataType;
  // BigInt travels as a signed 64-bit integer; a number as I64 keeps sizes above 4 GiB exact.
  const types = { void: T.Void, i32: T.I32, u32: T.U32, usize: T.I64, ptr: T.BigInt } as const;

  const bind = (library: string, funcName: string, result: ScalarType, args: readonly ScalarType[]): NativeFunction => {
    const call = {
      library,
      funcName,
      retType: types[result],
      paramsType: args.map((type) => types[type]),
      paramsValue: [] as unknown[],
      freeResultMemory: false,
    };
    const raw = (...values: unknown[]): number | bigint | undefined => {
      call.paramsValue = values;
      return ffi.load(call) as unknown as number | bigint | undefined;
    };
    return result === "ptr" ? (...values) => BigInt.asUintN(64, raw(...values) as bigint) : raw;
  };

  const c = openCLibrary(ffi);
  const memmove = (retType: number, address: bigint) =>
    ffi.load({
      library: c,
      funcName: "memmove",
      retType,
      paramsType: [T.BigInt, T.BigInt, T.I64],
      paramsValue: [address, address, 0],
      freeResultMemory: false,
    }) as unknown;

  const view = (address: bigint, bytes: number): ArrayBuffer => {
    if (bytes === 0) return new ArrayBuffer(0);
    // Moving no bytes returns its first argument, in the type that ffi-rs wants pointers to view in.
    const pointer = memmove(T.External, address) as ffiRs.JsExternal;
    return ffi.createExternalBuffer(pointer, bytes).buffer as ArrayBuffer;
  };

  const calloc = bind(c, "calloc", "ptr", ["usize", "usize"]);
  const free = bind(c, "free", "void", ["ptr"]);
  const findSymbol = symbolFinder(ffi, c);

  return {
    name: "ffi-rs",
    open(path: string): NativeLibrary {
      const library = `llcuda:${path}`;
      ffi.open({ library, path });
      const has = findSymbol(path);
      return {
        path,
        // ffi-rs itself would report a missing symbol only when it is called.
        bind: (symbol, result, args) => (has(symbol) ? bind(library, symbol, result, args) : undefined),
      };
    },
    alloc: blockAllocator((bytes) => calloc(1, bytes) as bigint, free, view),
    view,
    readString: (address) => memmove(T.String, address) as string,
  };
}

/** The C library of this process, under the name that ffi-rs knows it by. */
function openCLibrary(ffi: FfiRs): string {
  // An empty path is the process itself, which has the C library whatever its file is called (glibc, musl, macOS).
  const path = process.platform === "win32" ? "ucrtbase.dll" : "";
  ffi.open({ library: "llcuda:c", path });
  return "llcuda:c";
}

/** Asks the system's loader whether a library that is already open has a symbol. */
function symbolFinder(ffi: FfiRs, c: string): (path: string) => (symbol: string) => boolean {
  const T = ffi.DataType;
  const windows = process.platform === "win32";
  if (windows) ffi.open({ library: "llcuda:kernel32", path: "kernel32.dll" });
  const library = windows ? "llcuda:kernel32" : c;
  const call = (funcName: string, paramsType: ffiRs.FieldType[], paramsValue: unknown[]) =>
    ffi.load({
      library,
      funcName,
      retType: T.BigInt,
      paramsType,
      paramsValue,
      freeResultMemory: false,
    }) as unknown as bigint;
  return (path) => {
    const RTLD_NOW = 2;
    const handle = windows
      ? call("LoadLibraryA", [T.String], [path])
      : call("dlopen", [T.String, T.I32], [path, RTLD_NOW]);
    const lookup = windows ? "GetProcAddress" : "dlsym";
    return (symbol) => call(lookup, [T.BigInt, T.String], [handle, symbol]) !== 0n;
  };
}

function loadFfiRs(): FfiRs {
  try {
    return createRequire(import.meta.url)("ffi-rs") as FfiRs;
  } catch (cause) {
    throw new LibraryError(
      "ffi-rs",
      `ffi-rs: LLCUDA_FFI=ffi-rs, but the package could not be loaded on ${process.platform}-${process.arch} (${(cause as Error).message.split("\n")[0]}); install it with npm install ffi-rs, or unset LLCUDA_FFI to use koffi`,
      [],
      { cause },
    );
  }
}
