import { type GgmlType, ggmlType } from "../../../base/ggml.ts";

/** A model, in what decides on the types of its matrices. */
export interface MixtureModel {
  /** `model_type`: of the GGUF architecture, not of the config. */
  readonly modelType: string;
  readonly layers: number;
  /** H and G. */
  readonly heads: number;
  readonly kvHeads: number;
  /** E; 0 or 1 without experts. */
  readonly experts: number;
}

interface Place extends MixtureModel {
  readonly layer: number;
}

interface Mixture {
  /** `general.file_type`. Source: llama.cpp's enum of file types. */
  readonly fileType: number;
  /** Of all matrices that nothing else is said of. */
  readonly base: KTypeName;
  /** Of values, and of queries, keys and values in one. */
  readonly values?: (place: Place) => KTypeName | undefined;
  readonly down?: (place: Place) => KTypeName | undefined;
  /** Of attention's output; in mixtures of eight experts it is Q5_K in `lifted` ones, and otherwise the base. */
  readonly attentionOutput?: KTypeName;
  readonly lifted?: boolean;
}

type KTypeName = "Q2_K" | "Q3_K" | "Q4_K" | "Q5_K" | "Q6_K";

/** The first eighth of the layers, the last, and every third between. */
function hasMoreBits({ layer, layers }: Place): boolean {
  const eighth = Math.floor(layers / 8);
  return layer < eighth || layer >= Math.floor((7 * layers) / 8) || (layer - eighth) % 3 === 2;
}
const sixWhereMore = (place: Place) => (hasMoreBits(place) ? "Q6_K" : undefined);
const medium = { values: sixWhereMore, down: sixWhereMore } as const;

/** Source: llama.cpp's choice of types (llama-quant.cpp), without an importance matrix. */
const mixtures = {
  q2_k: {
    ...{ fileType: 10, base: "Q2_K", attentionOutput: "Q3_K", lifted: true },
    values: ({ heads, kvHeads }) => (Math.floor(heads / kvHeads) >= 4 ? "Q4_K" : "Q3_K"),
    down: () => "Q3_K",
  },
  q3_k_s: { fileType: 11, base: "Q3_K", lifted: true },
  q3_k_m: {
    ...{ fileType: 12, base: "Q3_K", attentionOutput: "Q4_K", lifted: true },
    values: ({ layer }) => (layer < 2 ? "Q5_K" : "Q4_K"),
    down: ({ layer, layers }) => (layer < Math.floor(layers / 16) ? "Q5_K" : "Q4_K"),
  },
  q3_k_l: { fileType: 13, base: "Q3_K", attentionOutput: "Q5_K", values: () => "Q5_K", down: () => "Q5_K" },
  q4_k_s: {
    ...{ fileType: 14, base: "Q4_K", lifted: true },
    values: ({ layer }) => (layer < 4 ? "Q5_K" : undefined),
    down: ({ layer, layers }) => (layer < Math.floor(layers / 8) ? "Q5_K" : undefined),
  },
  q4_k_m: { fileType: 15, base: "Q4_K", lifted: true, ...medium },
  q5_k_s: { fileType: 16, base: "Q5_K" },
  q5_k_m: { fileType: 17, base: "Q5_K", ...medium },
  q6_k: { fileType: 18, base: "Q6_K" },
} as const satisfies Readonly<Record<string, Mixture>>;

/** The mixtures of K types, by llama.cpp's names in lower case. */
export type MixtureName = keyof typeof mixtures;

export const mixtureNames = Object.keys(mixtures) as readonly MixtureName[];

export function isMixture(name: string): name is MixtureName {
  return Object.hasOwn(mixtures, name);
}

/** The type of most matrices, which with `pure` all have. */
export function mixtureBase(name: MixtureName): GgmlType {
  return ggmlType(mixtures[name].base);
}

/** `general.file_type`. */
export function mixtureFileType(name: MixtureName): number {
  return mixtures[name].fileType;
}

/** What llama.cpp makes of a matrix, by its name in the file. `isHead`: the output, or the embedding where that is the output. */
export function mixtureType(name: MixtureName, tensor: string, isHead: boolean, model: MixtureModel): GgmlType {
  if (isHead) return ggmlType("Q6_K");
  const [, layer, module] = /^blk\.(\d+)\.(\w+)\./.exec(tensor) ?? [];
  const mixture: Mixture = mixtures[name];
  const chosen = module && chosenType(mixture, module, { ...model, layer: Number(layer) });
  return ggmlType(chosen || mixture.base);
}

function chosenType(mixture: Mixture, module: string, place: Place): KTypeName | "Q8_0" | undefined {
  // Attention is small beside eight experts.
  const ofEight = place.experts === 8;
  switch (module) {
    case "attn_v":
    case "attn_qkv": {
      const type = mixture.values?.(place) ?? mixture.base;
      return ofEight ? "Q8_0" : isSeventyB(place) && (type === "Q3_K" || type === "Q4_K") ? "Q5_K" : type;
    }
    case "attn_k":
      return ofEight ? "Q8_0" : undefined;
    case "attn_output":
      return !ofEight ? mixture.attentionOutput : mixture.lifted ? "Q5_K" : undefined;
    case "ffn_down":
    case "ffn_down_exps":
      return mixture.down?.(place);
    default:
      return undefined;
  }
}

/** Llama 2 and 3 with 70 billion weights and Qwen2 with 72, whose values are few beside their queries. */
function isSeventyB({ modelType, layers, heads, kvHeads }: MixtureModel): boolean {
  if (layers !== 80) return false;
  return modelType === "qwen2" || (/^(llama|mistral|mixtral)$/.test(modelType) && heads !== kvHeads);
}
