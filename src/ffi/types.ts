import type { ScalarType } from "./engine.ts";
import type { Handle } from "./handles.ts";

declare const phantom: unique symbol;

/** A C type, paired with the TypeScript type that stands for it. */
export interface CType<T> {
  /** How it crosses the boundary by value. */
  readonly scalar: ScalarType | "cstring";
  /** Reads it from memory: how out parameters come back. */
  read(memory: DataView, offset: number): T;
  readonly [phantom]?: T;
}

/** An out parameter: the caller does not pass it, the call returns it. */
export interface Out<T> {
  readonly out: CType<T>;
}

export function out<T>(type: CType<T>): Out<T> {
  return { out: type };
}

function define<T>(scalar: CType<T>["scalar"], read: (memory: DataView, offset: number) => T): CType<T> {
  return { scalar, read };
}

export const i32 = define<number>("i32", (m, at) => m.getInt32(at, true));
export const u32 = define<number>("u32", (m, at) => m.getUint32(at, true));
/** size_t, and 64-bit integers that stay below 2^53. */
export const usize = define<number>("usize", (m, at) => Number(m.getBigUint64(at, true)));
/** An address in host memory, or any handle. */
export const pointer = define<bigint>("ptr", (m, at) => m.getBigUint64(at, true));
/** Only as an out parameter. */
export const f32 = define<number>("i32", (m, at) => m.getFloat32(at, true));
/** A NUL-terminated string that the callee only reads. */
export const cstring = define<string>("cstring", () => {
  throw new TypeError("cstring: not an out parameter; use a pointer");
});

/** An opaque pointer (or CUdeviceptr) that no other kind of handle can stand for. */
export function handle<Name extends string>(): CType<Handle<Name>> {
  return pointer as CType<bigint> as CType<Handle<Name>>;
}
