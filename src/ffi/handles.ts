/**
 * Handles and addresses are bigints that carry their C type's name, so that a module cannot be passed where a stream
 * belongs: one wrong pointer is a dead process, not a stack trace.
 */

declare const brand: unique symbol;
export type Handle<Name extends string> = bigint & { readonly [brand]: Name };

/** An address in device memory (CUdeviceptr). Arithmetic: `ptrAdd(p, bytes)`. */
export type DevicePtr = Handle<"CUdeviceptr">;
export type ContextHandle = Handle<"CUcontext">;
export type StreamHandle = Handle<"CUstream">;
export type EventHandle = Handle<"CUevent">;
export type ModuleHandle = Handle<"CUmodule">;
export type FunctionHandle = Handle<"CUfunction">;
export type GraphHandle = Handle<"CUgraph">;
export type GraphExecHandle = Handle<"CUgraphExec">;
