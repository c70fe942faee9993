import { writeFileSync } from "node:fs";
import { ArgumentError, FileError } from "../../base/errors.ts";
import { elementCount } from "../../base/shape.ts";
import { readNpy, writeNpy } from "../../formats/npy.ts";
import { readFile } from "../read-file.ts";
import { type ElementType, elementType, formatElement, npyElementType } from "./element-types.ts";
import type { KernelArgument } from "./kernel-arguments.ts";

/** A kernel's buffer on the host, before the launch or after it. `bytes` is undefined for memory that is left unwritten. */
export interface HostBuffer {
  readonly name: string;
  readonly type: ElementType;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array | undefined;
}

export function byteCount({ type, shape }: Pick<HostBuffer, "type" | "shape">): number {
  return type.bytes * elementCount(shape);
}

/** Makes what an argument describes; `position` is the argument's. Throws FileError, FormatError, ArgumentError. */
export function makeBuffer(argument: Extract<KernelArgument, { kind: "buffer" }>, position: number): HostBuffer {
  const { name, fill } = argument;
  if (fill.kind === "file") return readBuffer(name, argument.type, fill.path);
  const [type, shape] = [argument.type!, argument.shape!];
  if (fill.kind === "unset") return { name, type, shape, bytes: undefined };
  const bytes = new Uint8Array(byteCount({ type, shape }));
  if (fill.kind === "zeros") return { name, type, shape, bytes };
  if (fill.kind === "random" && !type.isFloat) {
    const next = generator(fill.seed ?? position);
    for (let i = 0; i < bytes.length; i++) bytes[i] = next() >>> 24;
    return { name, type, shape, bytes };
  }
  const view = new DataView(bytes.buffer);
  const next = fill.kind === "random" ? generator(fill.seed ?? position) : undefined;
  for (let i = 0; i < bytes.length / type.bytes; i++) {
    const value = next ? next() / 2 ** 31 - 1 : fill.kind === "value" ? fill.value : i;
    type.write(view, i * type.bytes, value);
  }
  return { name, type, shape, bytes };
}

/** Words of 32 random bits, the same for the same seed: a Weyl sequence through a mixing function. */
function generator(seed: number): () => number {
  let state = Math.imul(seed + 1, 0x9e3779b1);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let word = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    word = Math.imul(word ^ (word >>> 15), 0x735a2d97);
    return (word ^ (word >>> 15)) >>> 0;
  };
}

function readBuffer(name: string, given: ElementType | undefined, path: string): HostBuffer {
  if (path.endsWith(".npy")) {
    const { descr, shape, data } = readNpy(path);
    const stored = npyElementType(descr);
    const type = given ?? stored;
    if (!type) throw new ArgumentError(`--arg ${name}=@${path}: elements of NumPy type ${descr} have no PTX type`);
    if (given && stored !== given && !(given.name === "bf16" && stored?.bytes === 2)) {
      throw new ArgumentError(`--arg ${name}=${given.name}@${path}: the file holds ${stored?.name ?? descr}`);
    }
    if (data.length === 0) throw new ArgumentError(`--arg ${name}=@${path}: the array is empty`);
    return { name, type, shape, bytes: data };
  }
  const type = given ?? elementType("u8")!;
  const bytes = readFile(path);
  if (bytes.length === 0 || bytes.length % type.bytes !== 0) {
    throw new ArgumentError(
      `--arg ${name}=${type.name}@${path}: ${bytes.length} bytes are no whole number of elements`,
    );
  }
  return { name, type, shape: [bytes.length / type.bytes], bytes };
}

/** Writes a buffer as .npy where the name ends so, else its bytes alone. Throws FileError, ArgumentError. */
export function saveBuffer({ name, type, shape }: HostBuffer, bytes: Uint8Array, path: string): void {
  if (path.endsWith(".npy")) {
    if (!type.npy) throw new ArgumentError(`--save ${name}=${path}: NumPy has no type ${type.name}; save raw bytes`);
    writeNpy(path, { descr: type.npy, shape, data: bytes });
    return;
  }
  try {
    writeFileSync(path, bytes);
  } catch (cause) {
    throw new FileError(path, `${path}: the file cannot be written (${(cause as Error).message})`, { cause });
  }
}

/** The first `count` elements. */
export function elementsOf(type: ElementType, bytes: Uint8Array, count: number): (number | bigint)[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = Math.min(count, bytes.byteLength / type.bytes);
  return Array.from({ length }, (_, i) => type.read(view, i * type.bytes));
}

/** A heading, then eight elements a line with the index of the first. */
export function formatBuffer({ name, type, shape }: HostBuffer, bytes: Uint8Array, count: number): string {
  const texts = elementsOf(type, bytes, count).map((value) => formatElement(type, value));
  const width = Math.max(...texts.map((text) => text.length));
  const digits = String(Math.max(0, texts.length - 1)).length;
  const lines = [`${name}: ${type.name} [${shape.join(", ")}]`];
  for (let i = 0; i < texts.length; i += 8) {
    const row = texts.slice(i, i + 8).map((text) => text.padStart(width));
    lines.push(`  ${String(i).padStart(digits)}: ${row.join(" ")}`);
  }
  const rest = elementCount(shape) - texts.length;
  if (rest > 0) lines.push(`  … ${rest} more`);
  return `${lines.join("\n")}\n`;
}
