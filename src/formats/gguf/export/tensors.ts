import { FormatError, UnsupportedError } from "../../../base/errors.ts";
import { type GgmlType, ggmlType } from "../../../base/ggml.ts";
import type { StoredWeight } from "../../stored/stored-weights.ts";
import type { GgufArchitecture } from "../architectures.ts";
import type { GgufTensorHead } from "../write.ts";
import { type MixtureModel, type MixtureName, mixtureType } from "./mixture.ts";
import { ggufPlace } from "./names.ts";

/** A tensor of a GGUF file, and the weights of the checkpoint that it is made of: one, or those of all experts in their order. */
export interface GgufTensorPlan extends GgufTensorHead {
  readonly weights: readonly StoredWeight[];
}

type MixtureSizes = Omit<MixtureModel, "modelType" | "experts">;

export interface GgufPlanOptions {
  readonly architecture: GgufArchitecture;
  /** Of matrices; vectors and routers are F32. Where rows are no whole number of its blocks: see fitting. */
  readonly type: GgmlType;
  /** Which matrices have other types, for K types; without one the head is Q8_0 where the type is one of blocks. */
  readonly mixture?: { readonly name: MixtureName; readonly model: MixtureSizes } | undefined;
  /** Every matrix in the type, the head too. */
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
  const experts = Math.max(...Array.from(groups, ([name, members]) => (name.includes("_exps.") ? members.length : 0)));
  const plans = [...groups].map(([name, members]) => {
    return planTensor(name, members, typeOf(name, name === head, experts, options), options);
  });
  return plans.sort((a, b) => orderOf(a.name) - orderOf(b.name));
}

function planTensor(
  name: string,
  members: readonly (StoredWeight | undefined)[],
  wanted: GgmlType,
  { path }: GgufPlanOptions,
): GgufTensorPlan {
  const { shape } = members.find((member) => member !== undefined)!;
  const weights = Array.from(members, (member) => {
    if (member && String(member.shape) === String(shape)) return member;
    throw new FormatError(path, `${path}: the experts of ${name} are not complete, or not of one shape`);
  });
  const isMatrix = shape.length >= 2 && !name.includes("ffn_gate_inp");
  const type = isMatrix ? fitting(wanted, shape.at(-1)!) : ggmlType("F32");
  return { name, type, shape: name.includes("_exps.") ? [weights.length, ...shape] : shape, weights };
}

/** Layers by their number, the embedding before and what is left after them; each as the checkpoint has it. */
function orderOf(name: string): number {
  const layer = /^blk\.(\d+)\./.exec(name)?.[1];
  if (layer !== undefined) return Number(layer);
  return name.startsWith("token_embd") ? -1 : Number.MAX_SAFE_INTEGER;
}

function typeOf(name: string, isHead: boolean, experts: number, options: GgufPlanOptions): GgmlType {
  const { type, mixture, pure, architecture } = options;
  if (pure) return type;
  if (mixture) {
    const { modelType } = architecture;
    return mixtureType(mixture.name, name, isHead, { ...mixture.model, modelType, experts });
  }
  return isHead && type.kind === "block" ? ggmlType("Q8_0") : type;
}

/** What llama.cpp takes where rows are no whole number of blocks of 256. */
const shorterBlocks: Readonly<Record<string, string>> = {
  ...{ Q2_K: "Q4_0", Q3_K: "Q4_0", Q4_K: "Q5_0", Q5_K: "Q5_1", Q6_K: "Q8_0" },
};

/** The type, one with blocks of 32, or F16: the first of which rows of `cols` values are whole blocks. */
function fitting(type: GgmlType, cols: number): GgmlType {
  if (cols % type.blockElements === 0) return type;
  const shorter = shorterBlocks[type.name];
  return shorter === undefined ? ggmlType("F16") : fitting(ggmlType(shorter), cols);
}
