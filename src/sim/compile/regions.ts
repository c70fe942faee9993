import { type Ending, type Fragment, successors } from "./fragments.ts";

/** Fragments that reach each other without a collective instruction in between: what becomes one function. */
export interface Region {
  /** Fragments `first` up to but not including `end`. */
  readonly first: number;
  readonly end: number;
  /** Where lanes may begin: the kernel's first fragment, and those behind collective instructions. */
  readonly entries: readonly number[];
}

/** Numbers fragments anew so that each region's are consecutive; unreachable ones are dropped. */
export function splitRegions(fragments: readonly Fragment[]): { fragments: Fragment[]; regions: Region[] } {
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
    for (const next of follow) parent[find(next)] = find(f);
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
  const regions: Region[] = [];
  for (const group of groups.values()) {
    const first = renumbered.size;
    for (const f of group) renumbered.set(f, renumbered.size);
    regions.push({
      first,
      end: renumbered.size,
      entries: group.filter((f) => entries.has(f)).map((f) => renumbered.get(f)!),
    });
  }
  const to = (f: number): number => renumbered.get(f)!;
  const ordered: Fragment[] = [];
  for (const [from, index] of renumbered) {
    const { instructions, ending } = fragments[from]!;
    ordered[index] = { instructions, ending: renumber(ending, to) };
  }
  return { fragments: ordered, regions };
}

function renumber(ending: Ending, to: (f: number) => number): Ending {
  switch (ending.kind) {
    case "goto":
      return { kind: "goto", target: to(ending.target) };
    case "branch":
      return { ...ending, taken: to(ending.taken), next: to(ending.next) };
    case "collective":
      return { ...ending, next: to(ending.next) };
    default:
      return ending;
  }
}
