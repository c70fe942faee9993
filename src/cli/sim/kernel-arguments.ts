import { ArgumentError } from "../../base/errors.ts";
import { elementCount } from "../../base/shape.ts";
import { type ElementType, elementType, elementTypeNames } from "./element-types.ts";

/** What a buffer begins with. */
export type Fill =
  | { readonly kind: "zeros" | "iota" | "unset" }
  /** Without a seed, another one for each argument. */
  | { readonly kind: "random"; readonly seed: number | undefined }
  | { readonly kind: "value"; readonly value: number | bigint }
  | { readonly kind: "file"; readonly path: string };

/** One `--arg`, in the order of the kernel's parameters. */
export type KernelArgument =
  | { readonly kind: "scalar"; readonly type: ElementType; readonly value: number | bigint }
  | {
      readonly kind: "buffer";
      readonly name: string;
      /** Undefined where a file says so. */
      readonly type: ElementType | undefined;
      readonly shape: readonly number[] | undefined;
      readonly fill: Fill;
    }
  /** A buffer that an argument before has made. */
  | { readonly kind: "again"; readonly name: string };

export const argumentHelp =
  "TYPE:VALUE for a number; NAME=TYPE:COUNT[:FILL], NAME=@FILE.npy or NAME=TYPE@FILE for a buffer; NAME for it again";

/**
 * Reads `--arg`s: `f32:2.5` is a number; `x=f32:1024`, `x=f32:32x32:random:7` a buffer filled with zeros (as when nothing is
 * said), iota, random (uniform in [-1, 1), or all bits of whole numbers), one number, or unset; `x=@x.npy` and `x=f16@x.bin`
 * a buffer with a file's content; `x` a buffer again. Throws ArgumentError.
 */
export function parseKernelArguments(texts: readonly string[]): KernelArgument[] {
  const names = new Set<string>();
  return texts.map((text) => {
    const argument = parseArgument(text);
    if (argument.kind === "again" && !names.has(argument.name)) {
      refuse(text, `there is no buffer "${argument.name}" before it; ${argumentHelp}`);
    }
    if (argument.kind === "buffer") {
      if (names.has(argument.name)) refuse(text, `there is a buffer "${argument.name}" already`);
      names.add(argument.name);
    }
    return argument;
  });
}

function refuse(text: string, detail: string): never {
  throw new ArgumentError(`--arg ${text}: ${detail}`);
}

function parseArgument(text: string): KernelArgument {
  const buffer = /^([A-Za-z_]\w*)=(.*)$/s.exec(text);
  if (buffer) return parseBuffer(text, buffer[1]!, buffer[2]!);
  if (/^[A-Za-z_]\w*$/.test(text)) return { kind: "again", name: text };
  const scalar = /^([a-z]+\d+):(.+)$/s.exec(text);
  if (!scalar) return refuse(text, `an argument is ${argumentHelp}`);
  const type = typeOf(text, scalar[1]!);
  return { kind: "scalar", type, value: parseNumber(text, type, scalar[2]!) };
}

function parseBuffer(text: string, name: string, rest: string): KernelArgument {
  const file = /^([a-z]+\d+)?@(.+)$/s.exec(rest);
  if (file) {
    const type = file[1] === undefined ? undefined : typeOf(text, file[1]);
    return { kind: "buffer", name, type, shape: undefined, fill: { kind: "file", path: file[2]! } };
  }
  const [typeName = "", sizes = "", ...fill] = rest.split(":");
  const type = typeOf(text, typeName);
  if (!/^\d+(x\d+)*$/.test(sizes))
    refuse(text, `"${sizes}" is no size; a buffer has a count (1024) or a shape (32x32)`);
  const shape = sizes.split("x").map(Number);
  const bytes = elementCount(shape) * type.bytes;
  if (!(bytes > 0 && bytes < 2 ** 32)) refuse(text, `${bytes} bytes; a buffer has at least one and less than 4 GiB`);
  return { kind: "buffer", name, type, shape, fill: parseFill(text, type, fill) };
}

function parseFill(text: string, type: ElementType, [kind = "zeros", ...rest]: readonly string[]): Fill {
  if (kind === "random" && rest.length <= 1) {
    const [seed] = rest;
    if (seed === undefined) return { kind, seed };
    if (!/^\d{1,9}$/.test(seed)) refuse(text, `the seed "${seed}" is not a whole number of at most nine digits`);
    return { kind, seed: Number(seed) };
  }
  if (rest.length === 0 && (kind === "zeros" || kind === "iota" || kind === "unset")) return { kind };
  if (rest.length === 0 && /^[-+.\d]|^(NaN|Infinity)$/.test(kind)) {
    return { kind: "value", value: parseNumber(text, type, kind) };
  }
  const given = [kind, ...rest].join(":");
  return refuse(
    text,
    `"${given}" is no content; a buffer begins with zeros, iota, random, random:SEED, unset or a number`,
  );
}

function typeOf(text: string, name: string): ElementType {
  return elementType(name) ?? refuse(text, `there is no type "${name}"; use one of ${elementTypeNames}`);
}

function parseNumber(text: string, type: ElementType, number: string): number | bigint {
  if (!type.range) {
    const value = Number(number);
    if (Number.isNaN(value) && number !== "NaN") refuse(text, `"${number}" is not a number`);
    return value;
  }
  if (!/^-?(0x[\da-f]+|\d+)$/i.test(number)) refuse(text, `"${number}" is not a whole number`);
  const value = number.startsWith("-") ? -BigInt(number.slice(1)) : BigInt(number);
  const [least, largest] = type.range;
  if (value < least || value > largest) refuse(text, `${type.name} holds ${least} to ${largest}`);
  return value;
}
