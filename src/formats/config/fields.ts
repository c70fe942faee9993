import { FormatError } from "../../base/errors.ts";
import { describeJson, isJsonObject, type JsonObject } from "../json.ts";

/** A JSON object with what errors need to name it: its file, and its place in it (`rope_scaling.`; empty at the root). */
export interface FieldSource {
  readonly file: string;
  readonly prefix: string;
  readonly json: JsonObject;
}

/** What a field may hold: a test, and the words for it in an error. */
export interface FieldType<T> {
  readonly expected: string;
  accepts(value: unknown): value is T;
}

function type<T>(expected: string, accepts: (value: unknown) => boolean): FieldType<T> {
  return { expected, accepts: (value): value is T => accepts(value) };
}

const isNumber = (value: unknown): value is number => typeof value === "number" && Number.isFinite(value);
const isId = (value: unknown): value is number =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 31;

export const text = type<string>("a string", (v) => typeof v === "string");
export const flag = type<boolean>("true or false", (v) => typeof v === "boolean");
export const finiteNumber = type<number>("a number", isNumber);
export const positiveNumber = type<number>("a positive number", (v) => isNumber(v) && v > 0);
export const nonNegativeNumber = type<number>("a number of at least 0", (v) => isNumber(v) && v >= 0);
export const probability = type<number>("a number from 0 to 1", (v) => isNumber(v) && v >= 0 && v <= 1);
export const count = type<number>("a positive integer", (v) => isId(v) && v > 0);
/** Each layer gets objects of its own, so that a damaged number must not ask for a billion of them. */
export const layerCount = type<number>("an integer from 1 to 10000", (v) => isId(v) && v > 0 && v <= 10_000);
export const nonNegativeInteger = type<number>("an integer of at least 0", isId);
export const tokenIds = type<number | number[]>(
  "a token id or a list of them",
  (v) => isId(v) || (Array.isArray(v) && v.every(isId)),
);
export const positiveNumbers = type<number[]>(
  "a list of positive numbers",
  (v) => Array.isArray(v) && v.every((x) => isNumber(x) && x > 0),
);
export const texts = type<string[]>(
  "a list of strings",
  (v) => Array.isArray(v) && v.every((x) => typeof x === "string"),
);
export const object = type<JsonObject>("an object", isJsonObject);

/**
 * Reads one field. Absent and null are the same, as in the configs that transformers writes: they give the fallback.
 * Throws FormatError naming file, field, what was found and what was expected.
 */
export function readField<T, F>(source: FieldSource, name: string, wanted: FieldType<T>, fallback: F): T | F {
  const value = ownValue(source.json, name);
  if (value === undefined || value === null) return fallback;
  if (wanted.accepts(value)) return value;
  throw fieldError(source, name, value, wanted.expected);
}

/** Reads a field that must be there. */
export function requireField<T>(source: FieldSource, name: string, wanted: FieldType<T>): T {
  const value = readField(source, name, wanted, undefined);
  if (value === undefined) throw fieldError(source, name, undefined, wanted.expected);
  return value;
}

export function fieldError(source: FieldSource, name: string, found: unknown, expected: string): FormatError {
  const place = `${source.file}: ${source.prefix}${name}`;
  return new FormatError(
    source.file,
    found === undefined
      ? `${place} is missing; expected ${expected}`
      : `${place} is ${describeJson(found)}; expected ${expected}`,
  );
}

/** The object in a field as a source of its own, or undefined when there is none. */
export function nested(source: FieldSource, name: string): FieldSource | undefined {
  const json = readField(source, name, object, undefined);
  return json && { file: source.file, prefix: `${source.prefix}${name}.`, json };
}

function ownValue(json: JsonObject, name: string): unknown {
  return Object.hasOwn(json, name) ? json[name] : undefined;
}
