import { BitSet } from "./bits.ts";
import { registersOf } from "./effects.ts";
import { type Fragment, successors } from "./fragments.ts";
import type { Liveness } from "./liveness.ts";
import { innerSuccessors, type Region } from "./region.ts";

/** Which registers a region moves between their homes and its locals. */
export interface Traffic {
  /** By entry: what must be loaded there. */
  readonly loads: ReadonlyMap<number, BitSet>;
  /** By fragment that ends where lanes stop, or may: what must be stored there. */
  readonly stores: ReadonlyMap<number, BitSet>;
}

/**
 * At a stop, what is needed later and was written on some way there. At an entry, of what is live, what is touched on
 * some way from there, and what a stop on the way stores: another way may have written that, this one must keep it.
 */
export function planTraffic(
  region: Region,
  fragments: readonly Fragment[],
  liveness: Liveness,
  registers: number,
): Traffic {
  const { first, end, entries } = region;
  const written = BitSet.many(end - first, registers);
  written.forEach((set, i) => {
    set.addAll(liveness.written[first + i]!);
  });
  for (let changed = true; changed; ) {
    changed = false;
    for (let f = first; f < end; f++) {
      for (const next of innerSuccessors(region, fragments[f]!.ending)) {
        if (written[next - first]!.addAll(written[f - first]!)) changed = true;
      }
    }
  }
  const stores = new Map<number, BitSet>();
  for (let f = first; f < end; f++) {
    const { ending } = fragments[f]!;
    const resumed = successors(ending).filter((next) => region.resumptions.has(next));
    if (ending.kind !== "collective" && resumed.length === 0) continue;
    const needed = new BitSet(registers);
    for (const next of resumed) needed.addAll(liveness.liveIn[next]!);
    if (ending.kind === "collective") {
      needed.addAll(liveness.liveIn[ending.next]!);
      for (const { index } of registersOf(ending.instruction).read) needed.add(index);
    }
    stores.set(f, needed.intersection(written[f - first]!));
  }

  const loads = new Map<number, BitSet>();
  for (const entry of entries) {
    const used = new BitSet(registers);
    const seen = new Set([entry]);
    for (const f of seen) {
      used.addAll(liveness.touched[f]!);
      const stored = stores.get(f);
      if (stored) used.addAll(stored);
      for (const next of innerSuccessors(region, fragments[f]!.ending)) seen.add(next);
    }
    loads.set(entry, used.intersection(liveness.liveIn[entry]!));
  }
  return { loads, stores };
}
