import { readdirSync } from "node:fs";
import { LlcudaError } from "../base/errors.ts";
import type { Device } from "../driver/device.ts";
import { deviceTargets, ptxRoot, readPtx, readShipped } from "./library.ts";
import { type Manifest, manifestName, ptxFileName } from "./manifest.ts";
import type { Target } from "./spec.ts";

/** One PTX file as `llcuda doctor` reports it. */
export interface ModuleReport {
  readonly family: string;
  readonly symbol: string;
  readonly target: Target;
  /** Relative to `ptx/`. */
  readonly file: string;
  readonly ms: number;
  /** Why it cannot be used: missing file, the compiler's log, missing entry point. Undefined when it can. */
  readonly error: string | undefined;
}

/**
 * Compiles every PTX file that launches on this device would choose, one after another, and unloads it again. Failures
 * are reported, not thrown. The driver's cache may answer for the compiler: the time is what a user waits.
 */
export function* loadAllModules(device: Device): Generator<ModuleReport, void, undefined> {
  for (const family of readdirSync(ptxRoot).sort()) {
    for (const { symbol, target } of chosenFiles(readManifest(family), deviceTargets(device))) {
      const file = `${family}/${ptxFileName(symbol, target)}`;
      const started = performance.now();
      const error = loadFault(device, file, symbol);
      yield { family, symbol, target, file, ms: performance.now() - started, error };
    }
  }
}

/** For each symbol the first of `runnable` that it was built for; a symbol without one is left out. */
export function chosenFiles(
  manifest: Manifest,
  runnable: readonly Target[],
): { readonly symbol: string; readonly target: Target }[] {
  const symbols = [...new Set(manifest.files.map((f) => f.symbol))];
  return symbols.flatMap((symbol) => {
    const target = runnable.find((t) => manifest.files.some((f) => f.symbol === symbol && f.target === t));
    return target ? [{ symbol, target }] : [];
  });
}

function readManifest(family: string): Manifest {
  return JSON.parse(new TextDecoder().decode(readShipped(`${family}/${manifestName}`))) as Manifest;
}

function loadFault(device: Device, file: string, symbol: string): string | undefined {
  try {
    using module = device.loadModule(readPtx(file), file);
    module.getFunction(symbol);
    return undefined;
  } catch (error) {
    if (error instanceof LlcudaError) return error.message;
    throw error;
  }
}
