import type { Target } from "./spec.ts";

/** One PTX file of a family, as `ptx/<family>/manifest.json` records it. */
export interface ManifestFile {
  readonly symbol: string;
  readonly target: Target;
  /** The `.version` of the text: the oldest that ptxas accepts. */
  readonly version: string;
  /** SHA-256 over everything that decides the text, the compiler's version apart. */
  readonly inputs: string;
  /** SHA-256 of the text itself, so that an edit by hand is found. */
  readonly text: string;
}

export interface Manifest {
  /** The compiler that made these files. */
  readonly compiler: string;
  readonly files: readonly ManifestFile[];
}

export const manifestName = "manifest.json";

export function ptxFileName(symbol: string, target: Target): string {
  return `${symbol}.${target}.ptx`;
}
