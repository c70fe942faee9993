import type { DType } from "../../base/dtype.ts";
import type { GgmlType } from "../../base/ggml.ts";
import type { TensorInfo, WeightSource } from "../weight-source.ts";
import { companionNames, type FourBitWeight, findFourBitWeights } from "./bitsandbytes.ts";

/** How one weight of a model lies in its files, whatever the format. `shape` is that of the weight itself, row-major. */
export type StoredWeight =
  | {
      readonly kind: "plain";
      readonly name: string;
      readonly shape: readonly number[];
      readonly dtype: DType;
      readonly info: TensorInfo;
    }
  | {
      readonly kind: "ggml";
      readonly name: string;
      readonly shape: readonly number[];
      readonly type: GgmlType;
      readonly info: TensorInfo;
    }
  | FourBitWeight
  /** Of a type that llcuda has no storage for; `info.dtype` names it. */
  | { readonly kind: "unknown"; readonly name: string; readonly shape: readonly number[]; readonly info: TensorInfo };

/**
 * The weights of a source by name. What one is, is decided by the tensors that are there: a weight with a bitsandbytes state is
 * 4-bit and swallows its companions; one of a GGUF file is in its blocks; the rest is plain.
 * Throws FormatError when the tensors of a 4-bit weight disagree.
 */
export function storedWeights(source: WeightSource): Map<string, StoredWeight> {
  const fourBit = findFourBitWeights(source);
  const companions = new Set([...fourBit.values()].flatMap(({ name, type }) => companionNames(name, type)));
  const weights = new Map<string, StoredWeight>();
  for (const info of source.tensors.values()) {
    if (!companions.has(info.name)) weights.set(info.name, fourBit.get(info.name) ?? describeStored(info));
  }
  return weights;
}

/** One tensor by itself. */
export function describeStored(info: TensorInfo): StoredWeight {
  const { name, shape, elementType, ggml } = info;
  if (ggml) return { kind: "ggml", name, shape, type: ggml, info };
  return elementType
    ? { kind: "plain", name, shape, dtype: elementType, info }
    : { kind: "unknown", name, shape, info };
}

/** The type as a report names it: `bfloat16`, `Q4_K`, `nf4 (double quantization)`. */
export function storedTypeName(weight: StoredWeight): string {
  switch (weight.kind) {
    case "plain":
      return weight.dtype.name;
    case "ggml":
      return weight.type.name;
    case "bnb4":
      return weight.nested ? `${weight.type} (double quantization)` : weight.type;
    case "unknown":
      return weight.info.dtype;
  }
}

/** What a weight takes in its file, everything that belongs to it counted. */
export function storedBytes(weight: StoredWeight): number {
  if (weight.kind !== "bnb4") return weight.info.byteLength;
  const { packed, absmax, nested } = weight;
  return packed.byteLength + absmax.byteLength + (nested ? nested.absmax.byteLength + nested.code.byteLength : 0);
}
