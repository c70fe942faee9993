/**
 * Builds `ptx/` from the kernel sources, or checks it.
 *
 *   npm run ptx [-- family …]           compiles what is stale (needs nvcc and ptxas of CUDA 13)
 *   npm run ptx -- --force [family …]   compiles everything
 *   npm run ptx -- --stats [family …]   prints registers, shared memory and spills of the files that are there
 *   npm run ptx:check                   fails when a file is stale, missing or orphaned; needs no compiler, and assembles
 *                                       every file where ptxas exists
 *
 * See docs/kernels/build.md.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { ptxFileName } from "../src/kernels/manifest.ts";
import type { KernelSpec } from "../src/kernels/spec.ts";
import { assemble } from "./ptx/assemble.ts";
import { buildFamily, describe } from "./ptx/build.ts";
import { findStale, findUnassemblable } from "./ptx/check.ts";
import { allSpecs, jobsOf } from "./ptx/jobs.ts";
import { readText, removeStored, storedFamilies } from "./ptx/store.ts";
import { compilerVersion, findTool } from "./ptx/tools.ts";

async function build(specs: readonly KernelSpec[], whole: boolean, force: boolean): Promise<string | undefined> {
  const nvcc = await findTool("nvcc");
  const ptxas = await findTool("ptxas");
  if (!nvcc || !ptxas) {
    return `${nvcc ? "ptxas" : "nvcc"} was not found in CUDA_HOME, /usr/local/cuda or the search path; install the CUDA toolkit (13.0) to build kernels`;
  }
  const tools = { nvcc, ptxas, version: await compilerVersion(nvcc) };
  let built = 0;
  const failures: string[] = [];
  for (const spec of specs) {
    const result = await buildFamily(spec, tools, force);
    built += result.built;
    failures.push(...result.failures);
  }
  if (whole) {
    const known = new Set(specs.map((s) => s.family));
    for (const family of storedFamilies()) if (!known.has(family)) removeStored(family);
  }
  console.log(`${built} files built, ${specs.flatMap(jobsOf).length} in all, ${tools.version}`);
  return failures.length > 0 ? `${failures.length} files failed` : undefined;
}

async function check(specs: readonly KernelSpec[], whole: boolean): Promise<string | undefined> {
  const faults = findStale(specs, whole);
  const ptxas = await findTool("ptxas");
  if (ptxas && faults.length === 0) faults.push(...(await findUnassemblable(specs, ptxas)));
  for (const fault of faults) console.error(fault);
  if (faults.length > 0) return `${faults.length} faults in ptx/; run "npm run ptx" and commit the result`;
  const files = specs.flatMap(jobsOf).length;
  console.log(`ptx/ is up to date: ${files} files${ptxas ? ", all assembled" : " (ptxas not found: not assembled)"}`);
  return undefined;
}

async function stats(specs: readonly KernelSpec[]): Promise<string | undefined> {
  const ptxas = await findTool("ptxas");
  if (!ptxas) return "ptxas was not found in CUDA_HOME, /usr/local/cuda or the search path; install the CUDA toolkit";
  const folder = mkdtempSync(join(tmpdir(), "llcuda-ptx-"));
  for (const job of specs.flatMap(jobsOf)) {
    const name = ptxFileName(job.symbol, job.target);
    const path = join(folder, name);
    writeFileSync(path, readText(job.spec.family, name) ?? "");
    const result = await assemble(ptxas, path, job.target, folder);
    console.log(`${name}: ${result.ok ? describe(result.resources) : result.log.trim()}`);
  }
  rmSync(folder, { recursive: true });
  return undefined;
}

async function main(): Promise<string | undefined> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { check: { type: "boolean" }, stats: { type: "boolean" }, force: { type: "boolean" } },
  });
  const all = allSpecs();
  const unknown = positionals.find((name) => !all.some((s) => s.family === name));
  if (unknown) return `no family is named "${unknown}"; there are ${all.map((s) => s.family).join(", ")}`;
  const whole = positionals.length === 0;
  const specs = whole ? all : all.filter((s) => positionals.includes(s.family));
  if (values.check) return check(specs, whole);
  if (values.stats) return stats(specs);
  return build(specs, whole, values.force ?? false);
}

const failure = await main();
if (failure) {
  console.error(failure);
  process.exitCode = 1;
}
