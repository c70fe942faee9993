import { FormatError, UnsupportedError } from "../../../base/errors.ts";
import { type GgmlType, ggmlType } from "../../../base/ggml.ts";
import type { StoredWeight } from "../../stored/stored-weights.ts";
import type { GgufArchitecture } from "../architectures.ts";
import type { GgufTensorHead } from "../write.ts";
import { ggufPlace } from "./names.ts";

/** A tensor of a GGUF file, and the weights of the checkpoint that it is made of: one, or those of all experts in their order. */
export interface GgufTensorPlan extends GgufTensorHead {
  readonly weights: readonly StoredWeight[];
}

export interface GgufPlanOptions {
  readonly architecture: GgufArchitecture;
  /** Of matrices; vectors and routers are F32, and rows that are no whole number of blocks F16. */
  readonly type: GgmlType;
  /** Whether the head too has the type; by default it is Q8_0 where the type is one of blocks. */
  readonly pure: boolean;
  /** The model, for messages. */
  readonly path: string;
}

/**
 * The tensors of a GGUF file for the weights of a checkpoint, by their names there, in llama.cpp's order: embedding, layers, the rest.
 * Throws UnsupportedError for weights without a place, FormatError when experts are missing or differ.
 */
export function planGgufTensors(
  weights: Iterable<readonly [name: string, weight: StoredWeight]>,
  options: GgufPlanOptions,
): GgufTensorPlan[] {
  const groups = new Map<string, (StoredWeight | undefined)[]>();
  for (const [name, weight] of weights) {
    const place = ggufPlace(name, options.architecture);
    if (!place || weight.kind === "unknown" || (weight.kind === "plain" && !weight.dtype.isFloat)) {
      const problem = place ? "is no matrix or vector of floats" : "has no place in such a model";
      throw new UnsupportedError(
        `${options.path}: tensor "${weight.name}" ${problem}, so it cannot be written as GGUF`,
      );
    }
    const group = groups.get(place.name) ?? [];
    group[place.expert ?? 0] = weight;
    groups.set(place.name, group);
  }
  const head = groups.has("output.weight") ? "output.weight" : "token_embd.weight";
  const plans = [...groups].map(([name, members]) => planTensor(name, members, name === head, options));
  return plans.sort((a, b) => orderOf(a.name) - orderOf(b.name));
}

function planTensor(
  name: string,
  members: readonly (StoredWeight | undefined)[],
  isHead: boolean,
  options: GgufPlanOptions,
): GgufTensorPlan {
  const { shape } = members.find((member) => member !== undefined)!;
  const weights = Array.from(members, (member) => {
    if (member && String(member.shape) === String(shape)) return member;
    throw new FormatError(
      options.path,
      `${options.path}: the experts of ${name} are not complete, or not of one shape`,
    );
  });
  const type = typeOf(name, shape, isHead, options);
  return { name, type, shape: name.includes("_exps.") ? [weights.length, ...shape] : shape, weights };
}

/** Layers by their number, the embedding before and what is left after them; each as the checkpoint has it. */
function orderOf(name: string): number {
  const layer = /^blk\.(\d+)\./.exec(name)?.[1];
  if (layer !== undefined) return Number(layer);
  return name.startsWith("token_embd") ? -1 : Number.MAX_SAFE_INTEGER;
}

function typeOf(name: string, shape: readonly number[], isHead: boolean, { type, pure }: GgufPlanOptions): GgmlType {
  if (shape.length < 2 || name.includes("ffn_gate_inp")) return ggmlType("F32");
  const wanted = isHead && !pure && type.kind === "block" ? ggmlType("Q8_0") : type;
  return shape.at(-1)! % wanted.blockElements === 0 ? wanted : ggmlType("F16");
}
