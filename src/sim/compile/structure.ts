import type { Fragment } from "./fragments.ts";
import { innerSuccessors, type Region } from "./region.ts";

/** The control flow of a region as a tree of its dominators, for writing it as nested blocks and loops. */
export interface ControlTree {
  /** Position in reverse postorder; `root` stands for the region's several entries, if it has more than one. */
  readonly order: ReadonlyMap<number, number>;
  readonly root: number;
  /** Fragments that a fragment immediately dominates, latest in reverse postorder first. */
  readonly children: ReadonlyMap<number, readonly number[]>;
  readonly loopHeaders: ReadonlySet<number>;
  /** Fragments that several forward edges lead to: reached by leaving a block. */
  readonly merges: ReadonlySet<number>;
}

/** A number that no fragment has. */
export const manyEntries = -1;

/** A loop with two ways in cannot be nested: where one of them leads. */
export interface Irreducible {
  readonly irreducibleAt: number;
}

/** Dominators (Cooper, Harvey, Kennedy: A Simple, Fast Dominance Algorithm), loop headers and merges of a region. */
export function analyzeControl(region: Region, fragments: readonly Fragment[]): ControlTree | Irreducible {
  const root = region.entries.length === 1 ? region.entries[0]! : manyEntries;
  const next = (f: number): readonly number[] =>
    f === manyEntries ? region.entries : innerSuccessors(region, fragments[f]!.ending);
  const sequence = reversePostorder(root, next);
  const order = new Map(sequence.map((f, i) => [f, i]));
  const predecessors = new Map<number, number[]>(sequence.map((f) => [f, []]));
  for (const f of sequence) for (const to of new Set(next(f))) predecessors.get(to)!.push(f);

  const idom = new Map<number, number>([[root, root]]);
  const intersect = (a: number, b: number): number => {
    let [x, y] = [a, b];
    while (x !== y) {
      while (order.get(x)! > order.get(y)!) x = idom.get(x)!;
      while (order.get(y)! > order.get(x)!) y = idom.get(y)!;
    }
    return x;
  };
  for (let changed = true; changed; ) {
    changed = false;
    for (const f of sequence) {
      if (f === root) continue;
      let dominator: number | undefined;
      for (const p of predecessors.get(f)!) {
        if (idom.has(p)) dominator = dominator === undefined ? p : intersect(p, dominator);
      }
      if (idom.get(f) !== dominator) {
        idom.set(f, dominator!);
        changed = true;
      }
    }
  }
  const dominates = (a: number, b: number): boolean => {
    let x = b;
    while (order.get(x)! > order.get(a)!) x = idom.get(x)!;
    return x === a;
  };

  const loopHeaders = new Set<number>();
  const forward = new Map<number, number>();
  for (const f of sequence) {
    for (const to of next(f)) {
      if (order.get(to)! <= order.get(f)!) {
        if (!dominates(to, f)) return { irreducibleAt: to };
        loopHeaders.add(to);
      } else forward.set(to, (forward.get(to) ?? 0) + 1);
    }
  }
  const merges = new Set([...forward].filter(([, edges]) => edges > 1).map(([f]) => f));
  if (root === manyEntries) for (const entry of region.entries) merges.add(entry);
  const children = new Map<number, number[]>(sequence.map((f) => [f, []]));
  for (const f of [...sequence].reverse()) if (f !== root) children.get(idom.get(f)!)!.push(f);
  return { order, root, children, loopHeaders, merges };
}

function reversePostorder(root: number, next: (f: number) => readonly number[]): number[] {
  const seen = new Set([root]);
  const postorder: number[] = [];
  const stack: { f: number; rest: number[] }[] = [{ f: root, rest: [...next(root)] }];
  while (stack.length > 0) {
    const top = stack.at(-1)!;
    const to = top.rest.pop();
    if (to === undefined) {
      postorder.push(top.f);
      stack.pop();
    } else if (!seen.has(to)) {
      seen.add(to);
      stack.push({ f: to, rest: [...next(to)] });
    }
  }
  return postorder.reverse();
}
