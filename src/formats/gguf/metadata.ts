import { FormatError } from "../../base/errors.ts";
import { describeJson } from "../json.ts";
import type { GgufValue } from "./values.ts";

/** What a key may be asked for as: the words for it in an error, and the value, or undefined when it is another type. */
interface Kind<T> {
  readonly expected: string;
  of(value: GgufValue): T | undefined;
}

const isInteger = (value: unknown): value is number => Number.isSafeInteger(value);

const text: Kind<string> = {
  expected: "a string",
  of: (v) => (v.type === "string" ? v.value : undefined),
};
const flag: Kind<boolean> = {
  expected: "a bool",
  of: (v) => (v.type === "bool" ? v.value : undefined),
};
const number: Kind<number> = {
  expected: "a finite number",
  of: (v) => {
    const value = v.type === "string" || v.type === "bool" || v.type === "array" ? undefined : Number(v.value);
    return Number.isFinite(value) ? value : undefined;
  },
};
const size: Kind<number> = {
  expected: "an integer of at least 0",
  of: (v) => {
    const value = number.of(v);
    return isInteger(value) && value >= 0 ? value : undefined;
  },
};
const texts: Kind<readonly string[]> = {
  expected: "an array of strings",
  of: (v) => (v.type === "array" && v.of === "string" ? v.value : undefined),
};
const numbers: Kind<ArrayLike<number>> = {
  expected: "an array of numbers or bools",
  of: (v) => {
    if (v.type !== "array" || v.of === "string") return undefined;
    return v.of === "uint64" || v.of === "int64"
      ? Array.from(v.value as BigInt64Array, Number)
      : (v.value as Int32Array);
  },
};
const kinds = { text, flag, number, size, texts, numbers } as const;
type Kinds = typeof kinds;
type ValueOf<K extends keyof Kinds> = NonNullable<ReturnType<Kinds[K]["of"]>>;

/** The metadata of a GGUF file: typed values by key, in the order of the file. */
export class GgufMetadata {
  /** Path, for messages. */
  readonly file: string;
  readonly entries: ReadonlyMap<string, GgufValue>;

  constructor(file: string, entries: ReadonlyMap<string, GgufValue>) {
    this.file = file;
    this.entries = entries;
  }

  /** The value of a key, or undefined when it is absent. Throws FormatError when it has another type than asked for. */
  find<K extends keyof Kinds>(kind: K, key: string): ValueOf<K> | undefined {
    const entry = this.entries.get(key);
    if (!entry) return undefined;
    const value = kinds[kind].of(entry);
    if (value !== undefined) return value as ValueOf<K>;
    throw this.error(key, `is ${describeValue(entry)}; expected ${kinds[kind].expected}`);
  }

  /** The value of a key that must be there. */
  require<K extends keyof Kinds>(kind: K, key: string): ValueOf<K> {
    const value = this.find(kind, key);
    if (value !== undefined) return value;
    throw this.error(key, `is missing; expected ${kinds[kind].expected}`);
  }

  error(key: string, problem: string): FormatError {
    return new FormatError(this.file, `${this.file}: metadata ${key} ${problem}`);
  }
}

function describeValue(entry: GgufValue): string {
  if (entry.type === "array") return `an array of ${entry.value.length} of type ${entry.of}`;
  const value = typeof entry.value === "bigint" ? String(entry.value) : describeJson(entry.value);
  return `${value} (${entry.type})`;
}
