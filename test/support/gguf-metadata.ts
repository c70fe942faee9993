import type { GgufValue } from "../../src/formats/gguf/values.ts";

export interface ModelShape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly width: number;
  readonly layers?: number;
  readonly experts?: number;
}

const number = (value: number): GgufValue => ({ type: Number.isInteger(value) ? "uint32" : "float32", value });

/** The metadata of a small model; `more` are further keys below the architecture's name. */
export function modelMetadata(
  architecture: string,
  shape: ModelShape,
  more: Readonly<Record<string, number | string>> = {},
): Map<string, GgufValue> {
  const { heads, kvHeads, headDim, width, layers = 2, experts } = shape;
  const fields: Record<string, number | string> = {
    context_length: 512,
    embedding_length: width,
    block_count: layers,
    feed_forward_length: 6,
    "attention.head_count": heads,
    "attention.head_count_kv": kvHeads,
    "attention.key_length": headDim,
    "attention.value_length": headDim,
    "attention.layer_norm_rms_epsilon": 1e-5,
    ...(experts !== undefined && { expert_count: experts, expert_used_count: 2, expert_feed_forward_length: 3 }),
    ...more,
  };
  const metadata = new Map<string, GgufValue>([["general.architecture", { type: "string", value: architecture }]]);
  for (const [key, value] of Object.entries(fields)) {
    metadata.set(`${architecture}.${key}`, typeof value === "string" ? { type: "string", value } : number(value));
  }
  return metadata;
}
