import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { posix } from "node:path";
import { targetNumber } from "../../src/kernels/target.ts";
import type { Job } from "./jobs.ts";
import { kernelRoot } from "./paths.ts";

/** Raised when the build changes what it makes of the same source, so that everything is built again. */
const recipe = 1;

/** nvcc 13 compiles for sm_75 and newer: older targets take compute_75 code and must keep to what they have. */
export function compileArchitecture(job: Job): string {
  return `compute_${job.target === "sm_60" || job.target === "sm_70" ? "75" : job.target.slice("sm_".length)}`;
}

/** The macros that a source sees: see VariantAxes in src/kernels/spec.ts. */
export function defines(job: Job): string[] {
  return [
    `LLCUDA_TARGET=${targetNumber(job.target)}`,
    ...(job.target === "sm_90a" ? ["LLCUDA_HOPPER=1"] : []),
    `KERNEL_NAME=${job.symbol}`,
    ...Object.entries(job.variant).map(([axis, value]) => `VARIANT_${macroName(axis)}=${value}`),
  ];
}

/** `headDim` and `head_dim` both give HEAD_DIM. */
function macroName(axis: string): string {
  return axis.replace(/([a-z0-9])([A-Z])/g, "$1_$2").toUpperCase();
}

export function compilerFlags(job: Job): string[] {
  return ["--ptx", `-arch=${compileArchitecture(job)}`, "-std=c++17", "-O3", "-lineinfo", "-Werror=all-warnings"];
}

const texts = new Map<string, string>();

/** Source text with LF line ends, whatever the checkout made of them. */
function textOf(path: string): string {
  const known = texts.get(path);
  if (known !== undefined) return known;
  const text = readFileSync(`${kernelRoot}${path}`, "utf8").replaceAll("\r\n", "\n");
  texts.set(path, text);
  return text;
}

/** The source and all that it includes with quotes, directly or not, as paths below src/kernels. */
export function sourceClosure(source: string): string[] {
  const found = new Set<string>();
  const visit = (path: string): void => {
    if (found.has(path)) return;
    found.add(path);
    for (const [, name] of textOf(path).matchAll(/^[ \t]*#[ \t]*include[ \t]+"([^"]+)"/gm)) {
      visit(posix.join(posix.dirname(path), name!));
    }
  };
  visit(source);
  return [...found].sort();
}

/** SHA-256 over what decides the PTX text, the compiler apart: sources, flags, macros, target. */
export function inputHash(job: Job): string {
  const hash = createHash("sha256");
  hash.update(JSON.stringify([recipe, job.target, compilerFlags(job), defines(job)]));
  for (const path of sourceClosure(job.spec.source)) hash.update(`\0${path}\0${textOf(path)}`);
  return hash.digest("hex");
}

export function textHash(text: string): string {
  return createHash("sha256").update(text.replaceAll("\r\n", "\n")).digest("hex");
}
