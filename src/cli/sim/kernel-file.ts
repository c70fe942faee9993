import { basename } from "node:path";
import { brotliDecompressSync } from "node:zlib";
import { ArgumentError, UnsupportedError } from "../../base/errors.ts";
import { simTargets } from "../../sim/device/targets.ts";
import type { Entry, PtxModule } from "../../sim/ptx/ast.ts";
import { parsePtx } from "../../sim/ptx/parser.ts";
import { readFile } from "../read-file.ts";

/** A PTX file and the kernel of it that is to run. */
export interface KernelFile {
  readonly name: string;
  readonly text: string;
  readonly module: PtxModule;
  readonly entry: Entry;
}

/** Reads PTX text, or text compressed as this package ships it (.br). Without `entry`, the file must have one kernel. */
export function readKernelFile(path: string, entry: string | undefined): KernelFile {
  const text = readPtx(path);
  const name = basename(path);
  const module = parsePtx(text, name);
  const names = module.entries.map((e) => e.name);
  if (names.length === 0)
    throw new ArgumentError(`${path}: the file has no .entry; is it PTX text, as nvcc -ptx writes it?`);
  if (entry === undefined && names.length > 1) {
    throw new ArgumentError(`${path}: the file has ${names.length} kernels; choose with --entry: ${names.join(", ")}`);
  }
  const found = module.entries.find((e) => e.name === (entry ?? names[0]));
  if (!found) throw new ArgumentError(`--entry ${entry}: ${path} has ${names.join(", ")}`);
  return { name, text, module, entry: found };
}

function readPtx(path: string): string {
  return readFile(path, (bytes) =>
    Buffer.from(path.endsWith(".br") ? brotliDecompressSync(bytes) : bytes).toString("utf8"),
  );
}

/** The software device for a kernel: the one that is asked for, else the oldest that runs the PTX. Throws UnsupportedError, ArgumentError. */
export function chooseSimTarget({ module, name }: KernelFile, wanted: string | undefined): string {
  if (wanted !== undefined && !simTargets.includes(wanted)) {
    throw new ArgumentError(`--target ${wanted}: the software devices are ${simTargets.join(", ")}`);
  }
  const needed = capability(module.target);
  const found = simTargets.find((t) => (wanted === undefined || t === wanted) && capability(t) >= needed);
  if (found) return found;
  const advice = wanted === undefined ? `compile it for ${simTargets.at(-1)} or older` : "leave --target out";
  throw new UnsupportedError(
    `${name}: PTX for ${module.target} does not run on ${wanted ?? "a software device"}; ${advice}`,
  );
}

function capability(target: string): number {
  return Number.parseInt(target.slice(3), 10);
}
