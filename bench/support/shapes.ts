import { ArgumentError } from "../../src/base/errors.ts";
import { type ModelConfig, parseModelConfig } from "../../src/formats/config/model-config.ts";

/** What the config.json of well-known checkpoints says of their size. */
const shapes: Readonly<Record<string, Readonly<Record<string, number | boolean>>>> = {
  "llama-2-7b": llama({ c: 4096, f: 11008, layers: 32, h: 32, g: 32, v: 32000, context: 4096, theta: 10_000 }),
  "llama-3.1-8b": llama({ c: 4096, f: 14336, layers: 32, h: 32, g: 8, v: 128256, context: 131072, theta: 500_000 }),
  "llama-3.2-1b": llama({
    c: 2048,
    f: 8192,
    layers: 16,
    h: 32,
    g: 8,
    v: 128256,
    context: 131072,
    theta: 500_000,
    tied: true,
  }),
  "llama-3.2-3b": llama({
    c: 3072,
    f: 8192,
    layers: 28,
    h: 24,
    g: 8,
    v: 128256,
    context: 131072,
    theta: 500_000,
    tied: true,
  }),
};

function llama(s: {
  c: number;
  f: number;
  layers: number;
  h: number;
  g: number;
  v: number;
  context: number;
  theta: number;
  tied?: boolean;
}) {
  return {
    hidden_size: s.c,
    intermediate_size: s.f,
    num_hidden_layers: s.layers,
    num_attention_heads: s.h,
    num_key_value_heads: s.g,
    vocab_size: s.v,
    max_position_embeddings: s.context,
    rope_theta: s.theta,
    rms_norm_eps: 1e-5,
    tie_word_embeddings: s.tied ?? false,
  };
}

/** Throws ArgumentError that lists the known shapes. */
export function shapeConfig(name: string): ModelConfig {
  const shape = shapes[name];
  if (!shape) throw new ArgumentError(`--shape: "${name}" is not known; use one of ${Object.keys(shapes).join(", ")}`);
  return parseModelConfig({ architectures: ["LlamaForCausalLM"], ...shape }, `the shape ${name}`);
}
