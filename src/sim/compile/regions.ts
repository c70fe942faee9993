import { type Ending, type Fragment, successors } from "./fragments.ts";
import type { Region } from "./region.ts";
import { analyzeControl } from "./structure.ts";

/**
 * Splits a kernel into regions whose control flow can be nested: where a loop has several ways in, because a collective
 * instruction is inside of it, its header becomes a resumption.
 */
export function splitRegions(fragments: readonly Fragment[]): { fragments: Fragment[]; regions: Region[] } {
  const cuts = new Set<number>();
  for (;;) {
    const split = splitAt(fragments, cuts);
    let reducible = true;
    for (const region of split.regions) {
      const control = analyzeControl(region, split.fragments);
      if (!("irreducibleAt" in control)) continue;
      cuts.add(split.original[control.irreducibleAt]!);
      reducible = false;
    }
    if (reducible) return split;
  }
}

/** Numbers fragments anew so that each region's are consecutive; unreachable ones are dropped. */
function splitAt(
  fragments: readonly Fragment[],
  cuts: ReadonlySet<number>,
): { fragments: Fragment[]; regions: Region[]; original: number[] } {
  const parent = fragments.map((_, i) => i);
  const find = (i: number): number => {
    let root = i;
    while (parent[root] !== root) root = parent[root]!;
    while (parent[i] !== root) [parent[i], i] = [root, parent[i]!];
    return root;
  };
  const reached = new Set<number>([0]);
  const entries = new Set<number>([0]);
  for (const work = [0]; work.length > 0; ) {
    const f = work.pop()!;
    const { ending } = fragments[f]!;
    const follow = successors(ending);
    for (const next of follow) {
      if (cuts.has(next)) entries.add(next);
      else parent[find(next)] = find(f);
    }
    if (ending.kind === "collective") {
      entries.add(ending.next);
      follow.push(ending.next);
    }
    for (const next of follow) {
      if (reached.has(next)) continue;
      reached.add(next);
      work.push(next);
    }
  }

  const groups = new Map<number, number[]>();
  for (const f of [...reached].sort((a, b) => a - b)) {
    const root = find(f);
    const group = groups.get(root);
    if (group) group.push(f);
    else groups.set(root, [f]);
  }
  const renumbered = new Map<number, number>();
  const resumptions = new Set<number>();
  const regions: Region[] = [];
  for (const group of groups.values()) {
    const first = renumbered.size;
    for (const f of group) renumbered.set(f, renumbered.size);
    regions.push({
      first,
      end: renumbered.size,
      entries: group.filter((f) => entries.has(f)).map((f) => renumbered.get(f)!),
      resumptions,
    });
  }
  for (const f of cuts) resumptions.add(renumbered.get(f)!);
  const to = (f: number): number => renumbered.get(f)!;
  const ordered: Fragment[] = [];
  for (const [from, index] of renumbered) {
    const { instructions, ending } = fragments[from]!;
    ordered[index] = { instructions, ending: renumber(ending, to) };
  }
  return { fragments: ordered, regions, original: [...renumbered.keys()] };
}

function renumber(ending: Ending, to: (f: number) => number): Ending {
  switch (ending.kind) {
    case "goto":
      return { ...ending, target: to(ending.target) };
    case "branch":
      return { ...ending, taken: to(ending.taken), next: to(ending.next) };
    case "collective":
      return { ...ending, next: to(ending.next) };
    default:
      return ending;
  }
}
