import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ptxFileName } from "../../src/kernels/manifest.ts";
import type { KernelSpec } from "../../src/kernels/spec.ts";
import { assemble } from "./assemble.ts";
import { inputHash, textHash } from "./inputs.ts";
import { type Job, jobsOf } from "./jobs.ts";
import { signatureFault } from "./signature.ts";
import { readManifest, readText, storedFamilies, storedFiles } from "./store.ts";
import { inParallel } from "./tools.ts";

/**
 * Compares `ptx/` with the sources without a compiler: every variant has its file, made from these sources and not
 * edited since, whose entry point takes the specification's arguments; and nothing else lies there.
 * Returns one line per fault.
 */
export function findStale(specs: readonly KernelSpec[], whole: boolean): string[] {
  const faults = specs.flatMap(familyFaults);
  if (whole) {
    const known = new Set(specs.map((s) => s.family));
    for (const family of storedFamilies())
      if (!known.has(family)) faults.push(`ptx/${family}/: no specification makes it`);
  }
  return faults;
}

function familyFaults(spec: KernelSpec): string[] {
  const manifest = readManifest(spec.family);
  const jobs = jobsOf(spec);
  const names = new Set(jobs.map((j) => ptxFileName(j.symbol, j.target)));
  const orphans = storedFiles(spec.family).filter((f) => !names.has(f));
  const listed = (manifest?.files ?? []).filter((f) => !names.has(ptxFileName(f.symbol, f.target)));
  return [
    ...jobs.map((job) => jobFault(job, manifest)).filter((f) => f !== undefined),
    ...orphans.map((f) => `ptx/${spec.family}/${f}: no variant of "${spec.family}" makes it`),
    ...listed.map(
      (f) => `ptx/${spec.family}/manifest.json: lists ${ptxFileName(f.symbol, f.target)}, which no variant makes`,
    ),
  ];
}

function jobFault(job: Job, manifest: ReturnType<typeof readManifest>): string | undefined {
  const name = ptxFileName(job.symbol, job.target);
  const where = `ptx/${job.spec.family}/${name}`;
  const text = readText(job.spec.family, name);
  if (text === undefined) return `${where}: missing`;
  const known = manifest?.files.find((f) => f.symbol === job.symbol && f.target === job.target);
  if (!known) return `${where}: not in the family's manifest`;
  if (known.inputs !== inputHash(job)) return `${where}: stale, ${job.spec.source} or what it includes has changed`;
  if (known.text !== textHash(text)) return `${where}: differs from what the compiler wrote`;
  const fault = signatureFault(text, job.symbol, job.spec.args);
  return fault && `${where}: ${fault}`;
}

/** Assembles every file of these families. Returns one line per file that ptxas refuses. */
export async function findUnassemblable(specs: readonly KernelSpec[], ptxas: string): Promise<string[]> {
  const faults: string[] = [];
  const folder = mkdtempSync(join(tmpdir(), "llcuda-ptx-"));
  try {
    await inParallel(specs.flatMap(jobsOf), 2, async (job) => {
      const name = ptxFileName(job.symbol, job.target);
      const path = join(folder, name);
      writeFileSync(path, readText(job.spec.family, name) ?? "");
      const result = await assemble(ptxas, path, job.target, folder);
      if (!result.ok)
        faults.push(`ptx/${job.spec.family}/${name}: ptxas refuses it: ${result.log.trim().split("\n")[0]}`);
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return faults.sort();
}
