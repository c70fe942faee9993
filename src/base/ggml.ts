import { ArgumentError } from "./errors.ts";

/** How a ggml type groups elements: alone, in blocks with a scale, or in super-blocks whose scales are quantized too. */
export type GgmlKind = "float" | "integer" | "block" | "superblock";

/**
 * One element type of ggml, as GGUF files number it; an interned object: compare with `===`, ask it instead of its name.
 * A row of a tensor is a whole number of blocks, one after the other.
 */
export interface GgmlType {
  /** ggml's name, as tools print it: `Q4_K`, `BF16`. */
  readonly name: string;
  /** The number in a GGUF tensor entry. */
  readonly id: number;
  readonly kind: GgmlKind;
  /** Elements per block: 1 for plain numbers, 32 for blocks, 256 for super-blocks. */
  readonly blockElements: number;
  readonly blockBytes: number;
  /** Whether llcuda computes with it. The others are known by name and size, so that they can be listed and refused. */
  readonly supported: boolean;
}

const supportedNames = [
  ...["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"],
  ...["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"],
] as const;

export type SupportedGgmlTypeName = (typeof supportedNames)[number];

const supported: ReadonlySet<string> = new Set(supportedNames);

function define(name: string, id: number, kind: GgmlKind, blockElements: number, blockBytes: number): GgmlType {
  return Object.freeze({ name, id, kind, blockElements, blockBytes, supported: supported.has(name) });
}

/** Sources: the enum and the block structures of ggml (ggml.h, ggml-common.h). Numbers that are missing were withdrawn. */
const all = [
  define("F32", 0, "float", 1, 4),
  define("F16", 1, "float", 1, 2),
  define("Q4_0", 2, "block", 32, 2 + 16),
  define("Q4_1", 3, "block", 32, 2 + 2 + 16),
  define("Q5_0", 6, "block", 32, 2 + 4 + 16),
  define("Q5_1", 7, "block", 32, 2 + 2 + 4 + 16),
  define("Q8_0", 8, "block", 32, 2 + 32),
  define("Q8_1", 9, "block", 32, 2 + 2 + 32),
  define("Q2_K", 10, "superblock", 256, 16 + 64 + 2 + 2),
  define("Q3_K", 11, "superblock", 256, 32 + 64 + 12 + 2),
  define("Q4_K", 12, "superblock", 256, 2 + 2 + 12 + 128),
  define("Q5_K", 13, "superblock", 256, 2 + 2 + 12 + 32 + 128),
  define("Q6_K", 14, "superblock", 256, 128 + 64 + 16 + 2),
  define("Q8_K", 15, "superblock", 256, 4 + 256 + 32),
  define("IQ2_XXS", 16, "superblock", 256, 2 + 64),
  define("IQ2_XS", 17, "superblock", 256, 2 + 64 + 8),
  define("IQ3_XXS", 18, "superblock", 256, 2 + 96),
  define("IQ1_S", 19, "superblock", 256, 2 + 32 + 16),
  define("IQ4_NL", 20, "block", 32, 2 + 16),
  define("IQ3_S", 21, "superblock", 256, 2 + 64 + 8 + 32 + 4),
  define("IQ2_S", 22, "superblock", 256, 2 + 64 + 8 + 8),
  define("IQ4_XS", 23, "superblock", 256, 2 + 2 + 4 + 128),
  define("I8", 24, "integer", 1, 1),
  define("I16", 25, "integer", 1, 2),
  define("I32", 26, "integer", 1, 4),
  define("I64", 27, "integer", 1, 8),
  define("F64", 28, "float", 1, 8),
  define("IQ1_M", 29, "superblock", 256, 32 + 16 + 8),
  define("BF16", 30, "float", 1, 2),
  define("TQ1_0", 34, "superblock", 256, 48 + 4 + 2),
  define("TQ2_0", 35, "superblock", 256, 64 + 2),
  define("MXFP4", 39, "block", 32, 1 + 16),
  define("NVFP4", 40, "block", 64, 4 + 32),
] as const;

const byId = new Map<number, GgmlType>(all.map((type) => [type.id, type]));
const byName = new Map<string, GgmlType>(all.map((type) => [type.name, type]));

/** The types that llcuda computes with. */
export const supportedGgmlTypes: readonly GgmlType[] = all.filter((type) => type.supported);

/** The type with a number, or undefined for one that ggml does not have (any more). */
export function ggmlTypeById(id: number): GgmlType | undefined {
  return byId.get(id);
}

/** The type with a name, in any case (`q4_k`). Throws ArgumentError. */
export function ggmlType(name: SupportedGgmlTypeName | (string & {})): GgmlType {
  const found = byName.get(name.toUpperCase());
  if (found) return found;
  throw new ArgumentError(`ggmlType: unknown type "${name}"; supported are ${supportedNames.join(", ")}`);
}

/** Bytes of `elements` elements, which must be a whole number of blocks. */
export function ggmlBytes(type: GgmlType, elements: number): number {
  return (elements / type.blockElements) * type.blockBytes;
}
