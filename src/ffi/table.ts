import { LibraryError } from "../base/errors.ts";
import type { FfiEngine, NativeFunction, NativeLibrary, ScalarType, ScalarValue } from "./engine.ts";
import type { CType, Out } from "./types.ts";

type Param = CType<unknown> | Out<unknown>;

/** One C function: the row of a library's table from which its binding and its TypeScript type are made. */
export interface Row<Params extends readonly Param[] = readonly Param[], Result = unknown> {
  readonly symbol: string;
  /** The version of the library that brought this symbol, such as "11.8". */
  readonly since: string;
  readonly params: Params;
  /** Undefined: returns a status, which is checked. */
  readonly result: CType<Result> | undefined;
}

export type Table = Readonly<Record<string, Row>>;

/** A function that returns a status: `fn("cuMemAlloc_v2", "3.2", out(devicePtr), usize)`. Parameters in C order. */
export function fn<const P extends readonly Param[]>(symbol: string, since: string, ...params: P): Row<P, void> {
  return { symbol, since, params, result: undefined };
}

/** A function whose result is a value, or a status that the caller interprets. It has no out parameters. */
export function raw<T, const P extends readonly CType<unknown>[]>(
  result: CType<T>,
  symbol: string,
  since: string,
  ...params: P
): Row<P, T> {
  return { symbol, since, params, result };
}

type Ins<P extends readonly Param[]> = P extends readonly [infer H, ...infer R extends readonly Param[]]
  ? H extends CType<infer T>
    ? [value: T, ...Ins<R>]
    : Ins<R>
  : [];
type Outs<P extends readonly Param[]> = P extends readonly [infer H, ...infer R extends readonly Param[]]
  ? H extends Out<infer T>
    ? [T, ...Outs<R>]
    : Outs<R>
  : [];
type Returned<P extends readonly Param[], R> = Outs<P> extends [] ? R : Outs<P> extends [infer One] ? One : Outs<P>;

/** The TypeScript type of a row: in parameters as arguments; no, one or several (a tuple) out parameters as the result. */
export type Call<R> = R extends Row<infer P, infer T> ? (...args: Ins<P>) => Returned<P, T> : never;

export interface Bound<T extends Table> {
  /** Symbols resolve on first call; a missing one throws LibraryError then. */
  readonly calls: { readonly [K in keyof T]: Call<T[K]> };
  /** Whether the library has the symbol of a row. */
  has(name: keyof T): boolean;
  readonly path: string;
}

export interface BindOptions {
  readonly engine: FfiEngine;
  readonly library: NativeLibrary;
  /** Called with every status but 0; must throw. */
  readonly fail: (symbol: string, status: number) => never;
  /** What is loaded, for the message about a missing symbol: "NVIDIA driver for CUDA 11.4". */
  readonly describe: () => string;
}

/** Makes the calls of `table` from `library`. */
export function bind<const T extends Table>(table: T, options: BindOptions): Bound<T> {
  const { library } = options;
  const scratch = new Scratch(options.engine);
  const calls: Record<string, (...args: never[]) => unknown> = {};
  const resolved = new Map<string, NativeFunction | undefined>();

  const resolve = (name: string): NativeFunction | undefined => {
    const row = table[name]!;
    if (!resolved.has(name)) {
      const args = row.params.map((p) => scalarOf("out" in p ? undefined : p));
      resolved.set(name, library.bind(row.symbol, row.result ? scalarOf(row.result) : "i32", args));
    }
    return resolved.get(name);
  };

  for (const [name, row] of Object.entries(table)) {
    calls[name] = (...args: never[]) => {
      const native = resolve(name);
      if (!native) throw missingSymbol(row, options);
      const call = wrap(row, native, scratch, options.fail) as (...args: never[]) => unknown;
      calls[name] = call;
      return call(...args);
    };
  }
  return {
    calls: calls as unknown as Bound<T>["calls"],
    has: (name) => resolve(name as string) !== undefined,
    path: library.path,
  };
}

function missingSymbol(row: Row, options: BindOptions): LibraryError {
  return new LibraryError(
    options.library.path,
    `${row.symbol}: not in ${options.library.path} (${options.describe()}); it came with CUDA ${row.since}; update the NVIDIA driver or library to that version or newer`,
  );
}

/** By value: itself, and a string is the address of its bytes. An out parameter (undefined) is the address of a slot. */
function scalarOf(type: CType<unknown> | undefined): ScalarType {
  return type === undefined || type.scalar === "cstring" ? "ptr" : type.scalar;
}

/** The function that callers get; the only place where a status is tested. */
function wrap(row: Row, native: NativeFunction, scratch: Scratch, fail: BindOptions["fail"]) {
  const { symbol } = row;
  const marshal = row.params.some((p) => "out" in p || p.scalar === "cstring")
    ? scratch.marshaller(row.params)
    : undefined;
  // The hot kind: the engine's own function, and a test.
  const plain = (...args: ScalarValue[]): void => {
    const status = native(...args);
    if (status !== 0) fail(symbol, status as number);
  };
  if (!marshal) return row.result ? native : plain;
  if (row.result) return (...args: unknown[]) => native(...marshal.pass(args));
  return (...args: unknown[]) => {
    plain(...marshal.pass(args));
    return marshal.returned();
  };
}

/** Native memory for out parameters (one 8-byte slot each) and strings, shared by all calls: FFI calls do not nest. */
class Scratch {
  readonly #engine: FfiEngine;
  #address = 0n;
  #bytes = new Uint8Array(0);
  #view = new DataView(new ArrayBuffer(0));

  constructor(engine: FfiEngine) {
    this.#engine = engine;
    this.#reserve(1024);
  }

  marshaller(params: readonly Param[]): { pass(args: unknown[]): ScalarValue[]; returned(): unknown } {
    const slots: { type: CType<unknown>; offset: number }[] = [];
    const plan = params.map((p) => {
      if (!("out" in p)) return p.scalar === "cstring" ? ("string" as const) : ("in" as const);
      slots.push({ type: p.out, offset: slots.length * 8 });
      return slots.length - 1;
    });
    const stringsAt = slots.length * 8;
    return {
      pass: (args) => {
        const strings = args.filter((a): a is string => typeof a === "string").map((s) => encoder.encode(`${s}\0`));
        this.#reserve(strings.reduce((n, s) => n + s.length, stringsAt));
        this.#bytes.fill(0, 0, stringsAt);
        let at = stringsAt;
        let next = 0;
        return plan.map((step) => {
          if (typeof step === "number") return this.#address + BigInt(step * 8);
          const value = args[next++];
          if (step === "in") return value as ScalarValue;
          const string = strings.shift()!;
          this.#bytes.set(string, at);
          const address = this.#address + BigInt(at);
          at += string.length;
          return address;
        });
      },
      returned: () => {
        const values = slots.map((slot) => slot.type.read(this.#view, slot.offset));
        return values.length > 1 ? values : values[0];
      },
    };
  }

  #reserve(bytes: number): void {
    if (bytes <= this.#bytes.length) return;
    const block = this.#engine.alloc(bytes * 2);
    this.#address = block.address;
    this.#bytes = new Uint8Array(block.buffer);
    this.#view = new DataView(block.buffer);
  }
}

const encoder = new TextEncoder();
