import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ManifestFile, ptxFileName } from "../../src/kernels/manifest.ts";
import type { KernelSpec } from "../../src/kernels/spec.ts";
import { lowerVersion, type Resources } from "./assemble.ts";
import { compilerFlags, defines, inputHash, textHash } from "./inputs.ts";
import { type Job, jobsOf } from "./jobs.ts";
import { kernelRoot, root } from "./paths.ts";
import { signatureFault } from "./signature.ts";
import { readManifest, readText, removeStored, storedFiles, writeManifest, writeText } from "./store.ts";
import { tidy } from "./tidy.ts";
import { inParallel, runTool } from "./tools.ts";

export interface Toolchain {
  readonly nvcc: string;
  readonly ptxas: string;
  /** `nvcc 13.0.88`, recorded in the manifests. */
  readonly version: string;
}

interface Built {
  readonly file: ManifestFile;
  readonly text: string;
  readonly resources: Resources;
}

/** Compiles one variant for one target. Throws an Error with the compiler's text. */
async function compile(job: Job, tools: Toolchain, folder: string): Promise<Built> {
  const name = `${job.symbol}.${job.target}`;
  const out = join(folder, `${name}.nvcc.ptx`);
  const flags = [...compilerFlags(job), ...defines(job).map((d) => `-D${d}`)];
  const compiled = await runTool(tools.nvcc, [...flags, `${kernelRoot}${job.spec.source}`, "-o", out], root);
  if (!compiled.ok) throw new Error(`${name}: nvcc failed\n${compiled.output}`);
  const tidied = tidy(await readFile(out, "utf8"), job.target, root);
  const fault = signatureFault(tidied, job.symbol, job.spec.args);
  if (fault) throw new Error(`${name}: the kernel ${fault}`);
  const lowered = await lowerVersion(tools.ptxas, tidied, job.target, folder, name);
  if ("log" in lowered) {
    throw new Error(
      `${name}: ptxas refuses the text; is something newer than ${job.target} not behind LLCUDA_TARGET?\n${lowered.log}`,
    );
  }
  const file = {
    symbol: job.symbol,
    target: job.target,
    version: lowered.version,
    inputs: inputHash(job),
    text: textHash(lowered.text),
  };
  return { file, text: lowered.text, resources: lowered.resources };
}

/**
 * Brings one family's files and manifest up to date, and removes files that nothing makes any more. Files whose inputs
 * and compiler have not changed stay as they are. Failures are returned; what did compile is written all the same.
 */
export async function buildFamily(
  spec: KernelSpec,
  tools: Toolchain,
  force: boolean,
): Promise<{ built: number; failures: string[] }> {
  const old = readManifest(spec.family);
  const jobs = jobsOf(spec);
  const kept: ManifestFile[] = [];
  const wanted: Job[] = [];
  for (const job of jobs) {
    const known = old?.files.find((f) => f.symbol === job.symbol && f.target === job.target);
    const text = known && readText(spec.family, ptxFileName(job.symbol, job.target));
    const fresh = known && text !== undefined && known.inputs === inputHash(job) && textHash(text) === known.text;
    if (fresh && old?.compiler === tools.version && !force) kept.push(known);
    else wanted.push(job);
  }
  const failures: string[] = [];
  const folder = await mkdtemp(join(tmpdir(), "llcuda-ptx-"));
  try {
    await inParallel(wanted, 2, async (job) => {
      const name = ptxFileName(job.symbol, job.target);
      try {
        const built = await compile(job, tools, folder);
        writeText(spec.family, name, built.text);
        kept.push(built.file);
        console.log(`${name}: ${describe(built.resources)}, PTX ${built.file.version}`);
      } catch (error) {
        failures.push((error as Error).message);
        console.error((error as Error).message);
      }
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  const names = new Set(kept.map((f) => ptxFileName(f.symbol, f.target)));
  for (const file of storedFiles(spec.family)) if (!names.has(file)) removeStored(spec.family, file);
  writeManifest(spec.family, tools.version, kept);
  return { built: wanted.length - failures.length, failures };
}

export function describe(r: Resources): string {
  const parts = [`${r.registers} registers`];
  if (r.sharedBytes) parts.push(`${r.sharedBytes} B shared`);
  if (r.spillStores || r.spillLoads) parts.push(`SPILLS ${r.spillStores} B stored, ${r.spillLoads} B loaded`);
  else if (r.stackBytes) parts.push(`${r.stackBytes} B stack`);
  return parts.join(", ");
}
