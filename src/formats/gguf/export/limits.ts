import { UnsupportedError } from "../../../base/errors.ts";
import type { ModelConfig } from "../../config/model-config.ts";
import type { GgufArchitecture } from "../architectures.ts";
import { queryScalar } from "../attention-scale.ts";

/** Scalings of the rotation that are tensors in a file, and the families whose code in llama.cpp loads these. */
const tensorScalings: Readonly<Record<string, readonly string[]>> = {
  llama3: ["llama", "mistral", "mixtral"],
  longrope: ["llama", "mistral", "mixtral", "phi3"],
};
/** Families whose head llama.cpp takes to be the embedding. */
const alwaysTied = ["gemma", "gemma2"];

/**
 * Throws UnsupportedError for a model that llama.cpp would refuse to load, or compute in another way than its config says: there are
 * keys that its code does not read for every family. Found by loading such files in it (scripts/check-gguf.ts).
 */
export function checkLlamaCppLimits(config: ModelConfig, architecture: GgufArchitecture): void {
  for (const problem of problems(config, architecture)) {
    throw new UnsupportedError(`${config.source.file}: ${problem}; llama.cpp would not run it as it is`);
  }
}

function* problems(config: ModelConfig, { modelType, activation, interleavedRotary }: GgufArchitecture) {
  const { rope, headDim, rotaryDim, numHiddenLayers: layers, numAttentionHeads: heads, hiddenSize: width } = config;
  const activations: Readonly<Record<string, string>> = { swish: "silu", gelu_new: "gelu_pytorch_tanh" };
  if ((activations[config.hiddenAct] ?? config.hiddenAct) !== activation) {
    yield `the activation is ${config.hiddenAct}, and GGUF files of such models mean ${activation}`;
  }
  const scalar = queryScalar(modelType, { layers, heads, headDim, width });
  if (Math.abs(config.attentionScale * Math.sqrt(scalar) - 1) > 1e-6) {
    const found = Number((1 / config.attentionScale ** 2).toPrecision(6));
    yield `query_pre_attn_scalar is ${found}, and GGUF files of such a model mean ${scalar}`;
  }
  if (alwaysTied.includes(modelType) && !config.tieWordEmbeddings) {
    yield "the head is not the embedding, for which GGUF files of such models have no place";
  }
  if (config.outputBias && !interleavedRotary) {
    yield "attention's output has a bias, for which GGUF files of such models have no place";
  }
  if (interleavedRotary && rotaryDim !== headDim) {
    yield `${rotaryDim} of the ${headDim} dimensions of a head rotate, and GGUF files of such models mean all`;
  }
  if (rope.type in tensorScalings && !tensorScalings[rope.type]!.includes(modelType)) {
    yield `the rotation is scaled by rope_type "${rope.type}", for which GGUF files of such models have no place`;
  }
  if (rope.type === "yarn" && (rope.betaFast !== 32 || rope.betaSlow !== 1)) {
    yield `YaRN has beta_fast ${rope.betaFast} and beta_slow ${rope.betaSlow}, and GGUF files of such models mean 32 and 1`;
  }
}
