import { BitSet } from "./bits.ts";
import { registersOf } from "./effects.ts";
import { type Fragment, successors } from "./fragments.ts";

export interface Liveness {
  /** Registers whose value is still needed where a fragment begins. */
  readonly liveIn: readonly BitSet[];
  /** Registers that a fragment's own instructions read or write, and those they write. */
  readonly touched: readonly BitSet[];
  readonly written: readonly BitSet[];
}

/** Backward dataflow over all fragments, through collective instructions as well. */
export function analyzeLiveness(fragments: readonly Fragment[], registers: number): Liveness {
  const sets = () => BitSet.many(fragments.length, registers);
  const [use, kill, liveIn, touched, written] = [sets(), sets(), sets(), sets(), sets()];
  fragments.forEach(({ instructions, ending }, f) => {
    const [reads, kills] = [use[f]!, kill[f]!];
    const read = (index: number): void => {
      if (!kills.has(index)) reads.add(index);
    };
    for (const instruction of instructions) {
      const effects = registersOf(instruction);
      for (const { index } of effects.read) {
        read(index);
        touched[f]!.add(index);
      }
      for (const { index } of effects.written) {
        touched[f]!.add(index);
        written[f]!.add(index);
        // A guarded write leaves the old value where the guard is false.
        if (instruction.guard) read(index);
        else kills.add(index);
      }
    }
    if (ending.kind === "branch") {
      read(ending.predicate.index);
      touched[f]!.add(ending.predicate.index);
    }
    if (ending.kind === "collective") {
      const effects = registersOf(ending.instruction);
      for (const { index } of effects.read) read(index);
      for (const { index } of effects.written) kills.add(index);
    }
  });
  const out = new BitSet(registers);
  for (let changed = true; changed; ) {
    changed = false;
    for (let f = fragments.length - 1; f >= 0; f--) {
      const { ending } = fragments[f]!;
      out.words.fill(0);
      if (ending.kind === "collective") out.addAll(liveIn[ending.next]!);
      else for (const next of successors(ending)) out.addAll(liveIn[next]!);
      if (liveIn[f]!.transfer(use[f]!, out, kill[f]!)) changed = true;
    }
  }
  return { liveIn, touched, written };
}
