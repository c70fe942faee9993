import * as library from "@huggingface/jinja";

/** A parsed template. */
export type Program = { readonly type: "Program" };

interface Library {
  tokenize(source: string, options: { lstrip_blocks: boolean; trim_blocks: boolean }): unknown;
  parse(tokens: unknown): Program;
  readonly Environment: new () => { set(name: string, value: unknown): void };
  readonly Interpreter: new (environment: unknown) => { run(program: Program): { value: unknown } };
}

// Declared here for the same reason as in ../tokenizer/library.ts.
export const { tokenize, parse, Environment, Interpreter } = library as unknown as Library;
