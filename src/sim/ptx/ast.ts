/** PTX text as data. Names are unique inside an entry: registers of nested scopes are renamed by the parser. */

export type StateSpace = "reg" | "param" | "shared" | "global" | "const" | "local";

/** A register of an entry; `index` counts them. `type` without its dot: `b32`, `pred`. */
export interface Register {
  readonly name: string;
  readonly type: string;
  readonly index: number;
}

export interface Variable {
  readonly name: string;
  readonly space: StateSpace;
  readonly align: number;
  /** Zero for an array without a size: dynamic shared memory. */
  readonly bytes: number;
  /** What the variable begins with; the rest is zero. */
  readonly initial: Uint8Array | undefined;
  /** In its state space, or in its thread's frame for `local`. */
  readonly offset: number;
}

export type Operand =
  | { readonly kind: "register"; readonly register: Register; readonly negated?: boolean }
  | { readonly kind: "integer"; readonly value: bigint }
  /** A literal: `0f3F800000` has its 32 bits, `0d…` and decimal ones have 64. */
  | { readonly kind: "float"; readonly bits: bigint; readonly width: 32 | 64 }
  | { readonly kind: "special"; readonly name: string }
  | { readonly kind: "symbol"; readonly variable: Variable; readonly offset: number }
  /** `[base + offset]`; without a base an absolute address. */
  | {
      readonly kind: "address";
      readonly base: { readonly register: Register } | { readonly variable: Variable } | undefined;
      readonly offset: number;
    }
  | { readonly kind: "vector"; readonly items: readonly Operand[] }
  /** `a|b`: two destinations. */
  | { readonly kind: "pair"; readonly first: Operand; readonly second: Operand }
  /** `_`: a result that nobody wants. */
  | { readonly kind: "sink" }
  | { readonly kind: "label"; readonly name: string };

export interface Instruction {
  /** `ld.global.v4.u32`, as written. */
  readonly text: string;
  /** `ld`. */
  readonly name: string;
  /** `["global", "v4", "u32"]`. */
  readonly modifiers: readonly string[];
  readonly guard: { readonly register: Register; readonly negated: boolean } | undefined;
  readonly operands: readonly Operand[];
  /** Line of the PTX text, from 1. */
  readonly line: number;
  /** What the last `.loc` said: the line of the source that this was compiled from, or a line near it. */
  readonly source: { readonly file: number; readonly line: number; readonly near?: true } | undefined;
}

export type Statement = { readonly label: string } | { readonly instruction: Instruction };

export interface Entry {
  readonly name: string;
  readonly line: number;
  readonly parameters: readonly Variable[];
  readonly parameterBytes: number;
  readonly registers: readonly Register[];
  /** Static shared memory, its own and the module's, and where dynamic shared memory begins behind it. */
  readonly sharedBytes: number;
  readonly localBytes: number;
  readonly maxThreads: number | undefined;
  readonly body: readonly Statement[];
}

export interface PtxModule {
  readonly name: string;
  /** `6.0`. */
  readonly version: string;
  /** `sm_60`. */
  readonly target: string;
  readonly files: ReadonlyMap<number, string>;
  /** Variables of global and constant memory. */
  readonly variables: readonly Variable[];
  readonly globalBytes: number;
  readonly entries: readonly Entry[];
}
