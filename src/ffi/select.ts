import { ArgumentError } from "../base/errors.ts";
import { settings } from "../base/settings.ts";
import type { FfiEngine } from "./engine.ts";
import { ffiRsEngine } from "./ffi-rs.ts";
import { koffiEngine } from "./koffi.ts";

const makers: Record<string, () => FfiEngine> = { koffi: koffiEngine, "ffi-rs": ffiRsEngine };
const engines = new Map<string, FfiEngine>();

/**
 * The FFI engine that `name` (default: LLCUDA_FFI, else koffi) says; one per thread, made on first use.
 * Throws ArgumentError for an unknown name, LibraryError when its package does not load.
 */
export function ffiEngine(name: string = settings.ffiEngine()): FfiEngine {
  const found = engines.get(name);
  if (found) return found;
  const make = makers[name];
  if (!make) throw new ArgumentError(`LLCUDA_FFI: unknown engine "${name}"; use ${Object.keys(makers).join(" or ")}`);
  const engine = make();
  engines.set(name, engine);
  return engine;
}
