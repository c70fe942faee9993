/**
 * What llcuda needs from a foreign-function library, and nothing more: scalars in, one scalar out. Everything else
 * (out parameters, structures, arrays, strings) is native memory that we lay out ourselves, so an engine is about a page.
 * Two engines implement this: koffi (default) and ffi-rs. Both pass test/ffi/engine.test.ts.
 */

/**
 * The C types that cross the boundary. On this side: `i32`, `u32` and `usize` are numbers (sizes stay below 2^53),
 * `ptr` (pointers, handles, CUdeviceptr) is always a bigint, 0n for null. No API that llcuda calls passes a
 * floating-point number by value, so there is none here.
 */
export type ScalarType = "void" | "i32" | "u32" | "usize" | "ptr";

export type ScalarValue = number | bigint;

export type NativeFunction = (...args: ScalarValue[]) => ScalarValue | undefined;

/** Native memory that never moves: its address, and the same bytes as an ArrayBuffer. */
export interface NativeBlock {
  readonly address: bigint;
  readonly buffer: ArrayBuffer;
}

export interface NativeLibrary {
  readonly path: string;
  /** Binds one symbol, or returns undefined when the library lacks it. */
  bind(symbol: string, result: ScalarType, args: readonly ScalarType[]): NativeFunction | undefined;
}

export interface FfiEngine {
  readonly name: "koffi" | "ffi-rs";
  /** Opens a shared library by path or soname; throws an Error with the loader's text. */
  open(path: string): NativeLibrary;
  /** Zeroed memory, 64-byte aligned, freed some time after the block's `buffer` becomes unreachable. */
  alloc(bytes: number): NativeBlock;
  /**
   * Views memory that native code owns (pinned host memory), without a copy. The view must not be used after the owner
   * frees it.
   */
  view(address: bigint, bytes: number): ArrayBuffer;
  /** Reads a NUL-terminated UTF-8 string. */
  readString(address: bigint): string;
}

/**
 * The body of `FfiEngine.alloc`, the same for both engines: over-allocates with the C library, aligns, views, and
 * frees when the garbage collector has taken the view.
 */
export function blockAllocator(
  calloc: (bytes: number) => bigint,
  free: (address: bigint) => void,
  view: (address: bigint, bytes: number) => ArrayBuffer,
): (bytes: number) => NativeBlock {
  const registry = new FinalizationRegistry<bigint>(free);
  return (bytes) => {
    const raw = calloc(Math.max(bytes, 1) + alignment);
    if (raw === 0n) throw new RangeError(`host memory: ${bytes} bytes could not be allocated`);
    const address = (raw + BigInt(alignment - 1)) & ~BigInt(alignment - 1);
    const buffer = view(address, bytes);
    registry.register(buffer, raw);
    return { address, buffer };
  };
}

/** What CUtensorMap, the most demanding structure that we build, needs. */
const alignment = 64;
