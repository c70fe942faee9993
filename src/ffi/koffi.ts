import { createRequire } from "node:module";
import type koffiModule from "koffi";
import { LibraryError } from "../base/errors.ts";
import { blockAllocator, type FfiEngine, type NativeFunction, type NativeLibrary, type ScalarType } from "./engine.ts";

/** The koffi engine: calls cost tens of nanoseconds and allocate nothing. */
export function koffiEngine(): FfiEngine {
  const koffi = loadKoffi();
  // A named pointer to an opaque type always comes back as a bigint (or null); uint64_t would give a number when it fits.
  const pointer = koffi.pointer(koffi.opaque());
  const types = { void: "void", i32: "int32_t", u32: "uint32_t", usize: "uint64_t", ptr: pointer } as const;

  const view = (address: bigint, bytes: number): ArrayBuffer =>
    bytes === 0 ? new ArrayBuffer(0) : koffi.view(address, bytes);

  return {
    name: "koffi",
    open(path: string): NativeLibrary {
      const library = koffi.load(path);
      return {
        path,
        bind(symbol: string, result: ScalarType, args: readonly ScalarType[]): NativeFunction | undefined {
          try {
            library.symbol(symbol);
          } catch {
            return undefined;
          }
          const raw: NativeFunction = library.func(
            symbol,
            types[result],
            args.map((type) => types[type]),
          );
          return result === "ptr" ? (...values) => raw(...values) ?? 0n : raw;
        },
      };
    },
    alloc: blockAllocator(
      (bytes) => koffi.alloc("uint8_t", bytes) as bigint,
      (address) => koffi.free(address),
      view,
    ),
    view,
    readString: (address) => koffi.decode.string(address),
  };
}

function loadKoffi(): typeof koffiModule {
  try {
    return createRequire(import.meta.url)("koffi") as typeof koffiModule;
  } catch (cause) {
    throw new LibraryError(
      "koffi",
      `koffi: the FFI package could not be loaded on ${process.platform}-${process.arch} (${(cause as Error).message}); reinstall with npm install, or set LLCUDA_FFI=ffi-rs`,
      [],
      { cause },
    );
  }
}
