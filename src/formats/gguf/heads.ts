import { UnsupportedError } from "../../base/errors.ts";
import type { GgufMetadata } from "./metadata.ts";

export interface GgufHeads {
  /** H. */
  readonly heads: number;
  /** G. */
  readonly kvHeads: number;
  /** D. */
  readonly headDim: number;
}

/** The head counts of a file. Throws UnsupportedError where layers differ, FormatError where numbers are missing or no whole. */
export function readHeads(metadata: GgufMetadata): GgufHeads {
  const architecture = metadata.require("text", "general.architecture");
  const heads = readCount(metadata, `${architecture}.attention.head_count`);
  const key = `${architecture}.attention.head_count_kv`;
  const kvHeads = metadata.entries.has(key) ? readCount(metadata, key) : heads;
  const width = metadata.require("size", `${architecture}.embedding_length`);
  const headDim = metadata.find("size", `${architecture}.attention.key_length`) ?? width / heads;
  if (headDim < 1 || !Number.isInteger(headDim)) {
    throw metadata.error(`${architecture}.embedding_length`, `is ${width}; expected a multiple of the ${heads} heads`);
  }
  const valueDim = metadata.find("size", `${architecture}.attention.value_length`) ?? headDim;
  if (valueDim === headDim) return { heads, kvHeads, headDim };
  throw new UnsupportedError(
    `${metadata.file}: heads have ${headDim} dimensions for keys and ${valueDim} for values; llcuda needs them equal`,
  );
}

/** A count that some files write once for each layer. */
function readCount(metadata: GgufMetadata, key: string): number {
  if (metadata.entries.get(key)?.type !== "array") {
    const count = metadata.require("size", key);
    if (count > 0) return count;
    throw metadata.error(key, "is 0; expected a positive integer");
  }
  const counts = Array.from(metadata.require("numbers", key));
  const [first] = counts;
  if (first !== undefined && counts.every((count) => count === first) && first > 0) return first;
  throw new UnsupportedError(`${metadata.file}: ${key} differs from layer to layer, which llcuda does not support`);
}
