import type { CompiledKernel } from "../compile/kernel.ts";
import { exited, waiting, warpSlots } from "../memory-map.ts";
import { describeLine } from "./faults.ts";
import type { LinearMemory } from "./views.ts";

/**
 * Where the threads are that others wait for in vain: `16 of 32 live threads are there; thread (16,0,0) is at PTX line 15
 * (bar.sync)`. `areas` are those of the warps in question, `state` what the ones that wait have.
 */
export function describeStall(
  kernel: CompiledKernel,
  memory: LinearMemory,
  areas: readonly number[],
  state: number,
): string {
  const { i32 } = memory;
  let live = 0;
  let there = 0;
  let elsewhere: number | undefined;
  for (const area of areas) {
    for (let at = area >>> 2; at < (area >>> 2) + 32; at++) {
      if (i32[at] === exited) continue;
      live++;
      if (i32[at] === state) there++;
      else elsewhere ??= at;
    }
  }
  if (elsewhere === undefined) return `all ${live} live threads are there`;
  const [x, y, z] = [warpSlots.threadX, warpSlots.threadY, warpSlots.threadZ].map((slot) => i32[elsewhere! + slot / 4]);
  const { instruction } = kernel.collectives[i32[elsewhere]! - waiting]!;
  const line = describeLine(kernel.module, instruction);
  return `${there} of ${live} live threads are there; thread (${x},${y},${z}) is at ${line}`;
}
