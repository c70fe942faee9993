import { UnsupportedError } from "../../base/errors.ts";
import type { Entry, Instruction, Register } from "../ptx/ast.ts";
import { isCollective } from "./effects.ts";

/** How a fragment ends; targets are indices of fragments. `jump` is the instruction that says so, where there is one. */
export type Ending =
  | { readonly kind: "goto"; readonly target: number; readonly jump?: Instruction }
  | {
      readonly kind: "branch";
      readonly predicate: Register;
      readonly negated: boolean;
      readonly taken: number;
      readonly next: number;
      readonly jump?: Instruction;
    }
  /** The lane stops here until the warp or the block has done the collective instruction. */
  | { readonly kind: "collective"; readonly instruction: Instruction; readonly next: number }
  | { readonly kind: "exit"; readonly jump?: Instruction };

/** A run of instructions that one lane executes from its begin to its end, without the others. */
export interface Fragment {
  readonly instructions: readonly Instruction[];
  ending: Ending;
}

/**
 * Cuts a kernel where control or the lane's independence ends: at labels, after branches, and around collective
 * instructions. Fragment 0 is the entry point.
 */
export function cutFragments(entry: Entry, module: string): Fragment[] {
  const fragments: { instructions: Instruction[]; ending: Ending }[] = [];
  const labels = new Map<string, number>();
  const patches: (() => void)[] = [];
  let open: Instruction[] | undefined = [];
  const close = (ending: Ending): void => {
    fragments.push({ instructions: open ?? [], ending });
    open = undefined;
  };
  const here = (): number => fragments.length;
  const resolve = (label: string, line: number): number => {
    const found = labels.get(label);
    if (found === undefined)
      throw new UnsupportedError(`${module}, ${entry.name}, PTX line ${line}: no label ${label}`);
    return found;
  };

  for (const statement of entry.body) {
    if ("label" in statement) {
      if (open) close({ kind: "goto", target: here() + 1 });
      labels.set(statement.label, here());
      open = [];
      continue;
    }
    const { instruction } = statement;
    // Behind an unconditional jump without a label: nothing gets there.
    if (!open) open = [];
    const { guard, name, line } = instruction;
    if (name === "bra") {
      const [target] = instruction.operands;
      if (target?.kind !== "label")
        throw new UnsupportedError(`${module}, ${entry.name}, PTX line ${line}: ${instruction.text}`);
      const index = here();
      const next = index + 1;
      close({ kind: "exit" });
      const fragment = fragments[index]!;
      patches.push(() => {
        const taken = resolve(target.name, line);
        fragment.ending = guard
          ? { kind: "branch", predicate: guard.register, negated: guard.negated, taken, next, jump: instruction }
          : { kind: "goto", target: taken, jump: instruction };
      });
      if (guard) open = [];
    } else if (name === "ret" || name === "exit") {
      if (guard) {
        const at = here();
        const { register: predicate, negated } = guard;
        close({ kind: "branch", predicate, negated, taken: at + 1, next: at + 2, jump: instruction });
        close({ kind: "exit" });
        open = [];
      } else close({ kind: "exit", jump: instruction });
    } else if (isCollective(instruction)) {
      if (guard) {
        // The instruction gets a fragment of its own, which lanes whose predicate is false jump over.
        const at = here();
        close({ kind: "branch", predicate: guard.register, negated: guard.negated, taken: at + 1, next: at + 2 });
        open = [];
      }
      close({ kind: "collective", instruction, next: here() + 1 });
      open = [];
    } else open.push(instruction);
  }
  if (open) close({ kind: "exit" });
  for (const patch of patches) patch();
  return fragments;
}

/** Where a lane may go on by itself. */
export function successors(ending: Ending): number[] {
  if (ending.kind === "goto") return [ending.target];
  if (ending.kind === "branch") return [ending.taken, ending.next];
  return [];
}
