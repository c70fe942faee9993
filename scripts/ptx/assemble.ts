import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Target } from "../../src/kernels/spec.ts";
import { runTool } from "./tools.ts";

/** PTX versions that can be the oldest one a text needs, with what each brought. */
const versions = [
  "5.0", // sm_60
  "6.0", // sm_70, shfl.sync and barriers with masks
  "6.3", // sm_75, mma.m8n8k4 on f16 in 6.4
  "6.4",
  "6.5", // ldmatrix, mma.m16n8k8
  "7.0", // sm_80, bf16, cp.async
  "7.1", // sm_86
  "7.2",
  "7.4", // cache hints
  "7.5",
  "7.8", // sm_89, sm_90, griddepcontrol, clusters
  "8.0", // sm_90a, wgmma, bulk tensor copies
  "8.1",
  "8.3",
  "8.4",
  "8.5",
  "8.6",
  "8.7",
  "8.8",
  "9.0",
] as const;

const firstVersion: Record<Target, string> = {
  sm_60: "5.0",
  sm_70: "6.0",
  sm_75: "6.3",
  sm_80: "7.0",
  sm_86: "7.1",
  sm_89: "7.8",
  sm_90: "7.8",
  sm_90a: "8.0",
};

export interface Resources {
  readonly registers: number;
  readonly stackBytes: number;
  readonly spillStores: number;
  readonly spillLoads: number;
  readonly sharedBytes: number;
}

export type Assembled =
  | { readonly ok: true; readonly resources: Resources }
  | { readonly ok: false; readonly log: string };

/** Assembles one text. ptxas 13 knows no sm_60 or sm_70 machine code: their text is assembled for sm_75. */
export async function assemble(ptxas: string, path: string, target: Target, folder: string): Promise<Assembled> {
  const machine = target === "sm_60" || target === "sm_70" ? "sm_75" : target;
  const out = join(folder, `${process.pid}-${Math.random().toString(36).slice(2)}.cubin`);
  const { ok, output } = await runTool(ptxas, ["-v", `-arch=${machine}`, path, "-o", out]);
  await rm(out, { force: true });
  if (!ok) return { ok: false, log: output };
  const number = (pattern: RegExp): number => Number(pattern.exec(output)?.[1] ?? 0);
  return {
    ok: true,
    resources: {
      registers: number(/Used (\d+) registers/),
      stackBytes: number(/(\d+) bytes stack frame/),
      spillStores: number(/(\d+) bytes spill stores/),
      spillLoads: number(/(\d+) bytes spill loads/),
      sharedBytes: number(/(\d+) bytes smem/),
    },
  };
}

/**
 * Finds the oldest `.version` with which ptxas accepts the text, because a driver refuses text newer than itself.
 * Returns the text with that version, or the last log when none is accepted.
 */
export async function lowerVersion(
  ptxas: string,
  text: string,
  target: Target,
  folder: string,
  name: string,
): Promise<{ text: string; version: string; resources: Resources } | { log: string }> {
  const path = join(folder, `${name}.ptx`);
  let log = "";
  for (const version of versions.slice(versions.indexOf(firstVersion[target] as (typeof versions)[number]))) {
    const candidate = text.replace(/^\.version .*$/m, `.version ${version}`);
    await writeFile(path, candidate);
    const result = await assemble(ptxas, path, target, folder);
    if (result.ok) return { text: candidate, version, resources: result.resources };
    log = result.log;
  }
  return { log };
}
