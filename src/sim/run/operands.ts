import { UnsupportedError } from "../../base/errors.ts";
import type { Homes } from "../compile/region-code.ts";
import type { Instruction, Operand, Register } from "../ptx/ast.ts";
import type { LinearMemory } from "./views.ts";

/** Where a collective instruction finds an operand: in a register's home, or in the text. */
export type Place =
  | { readonly home: number; readonly wide: boolean; readonly negated: boolean }
  | { readonly value: number };

export type CollectiveRun = (memory: LinearMemory, warp: number, lanes: number) => void;

/** Told of each access that a collective instruction is about to make, at a linear address, for one of its lanes. */
export type AccessObserver = (address: number, bytes: number, lane: number, writes: boolean) => void;

/** Reads the operands of collective instructions. */
export class OperandReader {
  readonly instruction: Instruction;
  /** Where the executor's part of memory begins. */
  readonly base: number;
  readonly #kernel: string;
  readonly #homes: Homes;
  /** The linear address of a global or generic one. Throws when there is nothing. */
  readonly resolve: (address: bigint, bytes: number) => number;
  /** Undefined without checks. */
  readonly observe: AccessObserver | undefined;

  constructor(
    instruction: Instruction,
    base: number,
    kernel: string,
    homes: Homes,
    resolve: (address: bigint, bytes: number) => number,
    observe?: AccessObserver,
  ) {
    this.instruction = instruction;
    this.base = base;
    this.#kernel = kernel;
    this.#homes = homes;
    this.resolve = resolve;
    this.observe = observe;
  }

  unsupported(why?: string): never {
    const { text, line } = this.instruction;
    throw new UnsupportedError(
      `sim: instruction ${text} in ${this.#kernel} (PTX line ${line}) is not implemented${why ? `: ${why}` : ""}`,
    );
  }

  at(i: number): Operand {
    return this.instruction.operands[i] ?? this.unsupported(`operand ${i + 1} is missing`);
  }

  has(modifier: string): boolean {
    return this.instruction.modifiers.includes(modifier);
  }

  #home(register: Register): number {
    return this.#homes.get(register.index) ?? this.unsupported(`${register.name} has no home`);
  }

  place(operand: Operand): Place {
    if (operand.kind === "register") {
      return {
        home: this.#home(operand.register),
        wide: /^[busf]64$/.test(operand.register.type),
        negated: operand.negated === true,
      };
    }
    if (operand.kind === "integer") return { value: Number(BigInt.asIntN(32, operand.value)) };
    if (operand.kind === "float") return { value: Number(BigInt.asIntN(32, operand.bits)) };
    return this.unsupported(`a ${operand.kind} as an operand`);
  }

  /** The 32-bit value that a lane has. */
  reader(operand: Operand): (memory: LinearMemory, warp: number, lane: number) => number {
    const place = this.place(operand);
    if ("value" in place) return () => place.value;
    const { home, wide, negated } = place;
    if (wide) return (memory, warp, lane) => memory.i32[(warp + home + 8 * lane) >>> 2]!;
    if (negated) return (memory, warp, lane) => (memory.i32[((warp + home) >>> 2) + lane]! === 0 ? 1 : 0);
    return (memory, warp, lane) => memory.i32[((warp + home) >>> 2) + lane]!;
  }

  /** Homes of the registers of a vector operand, or of one register; -1 for `_`. */
  homesOf(operand: Operand): number[] {
    const items = operand.kind === "vector" ? operand.items : [operand];
    return items.map((item) => {
      if (item.kind === "sink") return -1;
      return item.kind === "register" ? this.#home(item.register) : this.unsupported(`a ${item.kind} as an operand`);
    });
  }

  /** Homes of the four operands of a matrix product: d, a, b, c. */
  productHomes(): [d: number[], a: number[], b: number[], c: number[]] {
    const homes = (i: number) => this.homesOf(this.at(i));
    return [homes(0), homes(1), homes(2), homes(3)];
  }
}
