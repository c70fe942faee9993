/**
 * What llcuda needs from a foreign-function library, and nothing more: scalars in, one scalar out. Everything else
 * (out parameters, structures, arrays) is native memory that we lay out ourselves, so an engine is about a page.
 * Two engines implement this: koffi (default) and ffi-rs. Both pass test/ffi/engine.conformance.ts.
 */

/** The C types that cross the boundary. Pointers and handles are `ptr`, always a bigint on this side. */
export type ScalarType = "void" | "i32" | "u32" | "i64" | "u64" | "f32" | "f64" | "ptr";

/** i32, u32, f32, f64: number. i64, u64: bigint. ptr: bigint, 0n for null. */
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
  /** Zeroed memory, 64-byte aligned, alive as long as the returned object is reachable. */
  alloc(bytes: number): NativeBlock;
  /**
   * Views memory that native code owns (pinned host memory), without a copy. The view must not be used after the owner
   * frees it. Returns undefined when this engine cannot.
   */
  view(address: bigint, bytes: number): ArrayBuffer | undefined;
  /** Reads a NUL-terminated UTF-8 string. */
  readString(address: bigint): string;
}
