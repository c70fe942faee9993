import { existsSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { expect } from "vitest";
import { LlcudaError } from "../../src/base/errors.ts";
import { mutate as mutateText, seededInts } from "./support.ts";

export interface Tally {
  accepted: number;
  refused: number;
  slowestMs: number;
}

/** Runs a reader on mutations of `seed`: it may accept or throw a LlcudaError of one line, within a second, and nothing else. */
export function fuzz(options: {
  readonly cases: number;
  readonly seed: number;
  readonly from: Uint8Array;
  readonly read: (bytes: Uint8Array) => void;
  /** Text by default. */
  readonly mutate?: (bytes: Uint8Array, next: (limit: number) => number) => Uint8Array;
}): Tally {
  const { mutate = mutateText } = options;
  const next = seededInts(options.seed);
  const tally = { accepted: 0, refused: 0, slowestMs: 0 };
  for (let i = 0; i < options.cases; i++) {
    const bytes = mutate(options.from, next);
    const start = performance.now();
    try {
      options.read(bytes);
      tally.accepted++;
    } catch (error) {
      if (!(error instanceof LlcudaError)) {
        throw new Error(
          `case ${i} of seed ${options.seed} threw ${String(error)}: ${Buffer.from(bytes).toString("latin1")}`,
        );
      }
      if (error.message.length > 700 || error.message.includes("\n")) expect(error.message).toBe("one short line");
      tally.refused++;
    }
    tally.slowestMs = Math.max(tally.slowestMs, performance.now() - start);
  }
  expect(tally.slowestMs).toBeLessThan(1000);
  return tally;
}

/** How many files this process has open, where the system tells. */
export function openFileCount(): number {
  return existsSync("/proc/self/fd") ? readdirSync("/proc/self/fd").length : 0;
}

/** Writes a file anew. File systems write out at once what is cut to nothing and filled again, which takes milliseconds. */
export function rewrite(path: string, bytes: Uint8Array): void {
  rmSync(path, { force: true });
  writeFileSync(path, bytes);
}
