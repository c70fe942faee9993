import type { Source } from "./sources.ts";

/** How a result is taken from the kernel: a register's value, a predicate as 0 or 1, or bytes that the code stores itself. */
export type Result = "b16" | "b32" | "b64" | "f32" | "f64" | "pred" | "m4" | "m8" | "m16";

/** What an instruction may differ by from the exact result, where PTX allows any difference. */
export interface Bound {
  /** In words, for reports: "2 ulp". */
  readonly text: string;
  /** The first result that is too far off, in words; undefined when there is none. Rows are threads, 32 a warp. */
  readonly fault: (inputs: readonly Uint8Array[], outputs: readonly Uint8Array[], rows: number) => string | undefined;
}

/**
 * One form of an instruction with what is needed to run it on many operands: a line of the catalogue. Devices must agree
 * on every bit of its results, unless it has a bound.
 */
export interface InstructionCase {
  /** Unique; the instruction's text where that is. */
  readonly name: string;
  /**
   * PTX that reads %i0, %i1, … and sets %o0, %o1, …. %ai0 and %ao0 are the addresses (b64) that they lie at; %lane is the
   * lane. Temporaries: %p %q (pred), %h %g (b16), %t %u %v (b32), %x %y (b64), %f (f32), %e (f64).
   */
  readonly code: string;
  readonly inputs: readonly Source[];
  readonly outputs: readonly Result[];
  /** The oldest architecture that has it: 75 for sm_75. */
  readonly capability: number;
  readonly bound: Bound | undefined;
  /** More declarations inside the kernel. */
  readonly declarations: string;
  /** Before the kernel: variables of the module. */
  readonly module: string;
  /** Threads of a block. */
  readonly block: number;
}

export type CaseOptions = Partial<
  Pick<InstructionCase, "name" | "capability" | "bound" | "declarations" | "module" | "block">
>;

/** A case from its code. Without a name, the first instruction's text is the name. */
export function snippet(
  code: string,
  inputs: readonly Source[],
  outputs: Result | readonly Result[],
  options: CaseOptions = {},
): InstructionCase {
  return {
    name: code.split(" ", 1)[0]!,
    code,
    inputs,
    outputs: typeof outputs === "string" ? [outputs] : outputs,
    capability: 60,
    bound: undefined,
    declarations: "",
    module: "",
    block: 128,
    ...options,
  };
}

/** The plain form: `text` with one result and all inputs as operands. */
export function simple(
  text: string,
  inputs: readonly Source[],
  output: Result,
  options: CaseOptions = {},
): InstructionCase {
  return snippet(`${text} %o0, ${inputs.map((_, i) => `%i${i}`).join(", ")};`, inputs, output, options);
}
