import { rmsNorm } from "./norm.ts";

/**
 * What a decoder computes, stated by the test itself and not read from a config: a second opinion on how configs are read
 * as well as on what is computed. Fields are named as in ModelConfig.
 */
export interface DecoderFacts {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly eps: number;
  readonly normOffset: number;
  readonly embeddingScale: number;
  readonly activation: (x: number) => number;
  readonly attentionScale: number;
  readonly attentionSoftcap?: number;
  readonly logitSoftcap?: number;
  /** Names of the norms of a layer: before attention, after it (or none), before the feed-forward, after it (or none). */
  readonly norms: readonly [string, string | undefined, string, string | undefined];
  /** Of each layer: how many tokens it sees, and the radians that each pair of a head turns by per position. */
  readonly layers: readonly { readonly window: number; readonly frequencies: readonly number[] }[];
  /** Multiplies cos and sin. */
  readonly rotaryScale?: number;
}

export type Parameters = ReadonlyMap<string, { readonly shape: readonly number[]; readonly data: Float32Array }>;

/** The logits of every position in float64, without a cache. Projections may be stored apart or fused, with biases or without. */
export function decoderLogits(facts: DecoderFacts, parameters: Parameters, ids: readonly number[]): Float64Array[] {
  const { eps, normOffset } = facts;
  const norm = (name: string, x: Float64Array) =>
    rmsNorm(x, Float64Array.from(parameters.get(`${name}.weight`)!.data), eps, normOffset);
  const linear = (name: string, x: Float64Array) => project(parameters, name, x);
  const embedding = parameters.get("model.embed_tokens.weight")!;
  const [vocab, width] = embedding.shape as [number, number];
  const row = (id: number) => Float64Array.from(embedding.data.subarray(id * width, (id + 1) * width));
  const stream = ids.map((id) => row(id).map((v) => v * facts.embeddingScale));
  for (const [i, layer] of facts.layers.entries()) {
    const at = (name: string) => `model.layers.${i}.${name}`;
    const [before, after, beforeMlp, afterMlp] = facts.norms;
    const qkv = stream.map((x) => {
      const y = norm(at(before), x);
      if (parameters.has(at("self_attn.qkv_proj.weight"))) return linear(at("self_attn.qkv_proj"), y);
      return concat(["q", "k", "v"].map((part) => linear(at(`self_attn.${part}_proj`), y)));
    });
    const mixed = attend(facts, layer, qkv, (name, x) =>
      parameters.has(at(`self_attn.${name}.weight`)) ? norm(at(`self_attn.${name}`), x) : x,
    );
    for (const [t, x] of stream.entries()) {
      const attended = linear(at("self_attn.o_proj"), mixed[t]!);
      add(x, after ? norm(at(after), attended) : attended);
      const y = norm(at(beforeMlp), x);
      const both = parameters.has(at("mlp.gate_up_proj.weight"))
        ? linear(at("mlp.gate_up_proj"), y)
        : concat([linear(at("mlp.gate_proj"), y), linear(at("mlp.up_proj"), y)]);
      const half = both.length / 2;
      const gated = both.slice(0, half).map((g, f) => facts.activation(g) * both[half + f]!);
      const fed = linear(at("mlp.down_proj"), gated);
      add(x, afterMlp ? norm(at(afterMlp), fed) : fed);
    }
  }
  return stream.map((x) => {
    const y = norm("model.norm", x);
    const logits = parameters.has("lm_head.weight")
      ? linear("lm_head", y)
      : Float64Array.from({ length: vocab }, (_, id) => dot(row(id), y));
    return facts.logitSoftcap === undefined ? logits : logits.map((v) => cap(v, facts.logitSoftcap!));
  });
}

/** Causal attention of each token over the last `window` ones. qkv [T][(H + 2G)·D] gives [T][H·D]. */
function attend(
  facts: DecoderFacts,
  { window, frequencies }: DecoderFacts["layers"][number],
  qkv: readonly Float64Array[],
  headNorm: (name: string, x: Float64Array) => Float64Array,
): Float64Array[] {
  const { heads, kvHeads, headDim } = facts;
  const head = (t: number, index: number) => qkv[t]!.slice(index * headDim, (index + 1) * headDim);
  const turned = (name: string, t: number, index: number) =>
    rotate(headNorm(name, head(t, index)), t, frequencies, facts.rotaryScale ?? 1);
  return qkv.map((_, t) =>
    concat(
      Array.from({ length: heads }, (_, h) => {
        const query = turned("q_norm", t, h);
        const group = Math.floor((h * kvHeads) / heads);
        const seen = Array.from({ length: t + 1 }, (_, j) => j).filter((j) => t - j < window);
        const scores = seen.map((j) => {
          const score = dot(query, turned("k_norm", j, heads + group)) * facts.attentionScale;
          return facts.attentionSoftcap === undefined ? score : cap(score, facts.attentionSoftcap);
        });
        const most = Math.max(...scores);
        const weights = scores.map((s) => Math.exp(s - most));
        const sum = weights.reduce((a, b) => a + b, 0);
        const out = new Float64Array(headDim);
        for (const [n, j] of seen.entries()) {
          add(
            out,
            head(j, heads + kvHeads + group).map((v) => (v * weights[n]!) / sum),
          );
        }
        return out;
      }),
    ),
  );
}

/** Pairs (i, i + R/2) of the first R elements, R being twice the frequencies. */
function rotate(x: Float64Array, position: number, frequencies: readonly number[], scale: number): Float64Array {
  const out = x.slice();
  const pairs = frequencies.length;
  for (const [i, frequency] of frequencies.entries()) {
    const [cos, sin] = [scale * Math.cos(position * frequency), scale * Math.sin(position * frequency)];
    out[i] = x[i]! * cos - x[i + pairs]! * sin;
    out[i + pairs] = x[i + pairs]! * cos + x[i]! * sin;
  }
  return out;
}

function project(parameters: Parameters, name: string, x: Float64Array): Float64Array {
  const { shape, data } = parameters.get(`${name}.weight`)!;
  const bias = parameters.get(`${name}.bias`)?.data;
  const [rows, cols] = shape as [number, number];
  return Float64Array.from({ length: rows }, (_, r) => {
    let sum = bias?.[r] ?? 0;
    for (let c = 0; c < cols; c++) sum += data[r * cols + c]! * x[c]!;
    return sum;
  });
}

function dot(a: Float64Array, b: Float64Array): number {
  return a.reduce((sum, v, i) => sum + v * b[i]!, 0);
}

function add(x: Float64Array, y: Float64Array): void {
  for (const [i, v] of y.entries()) x[i]! += v;
}

function concat(parts: readonly Float64Array[]): Float64Array {
  return Float64Array.from(parts.flatMap((part) => [...part]));
}

function cap(x: number, limit: number): number {
  return limit * Math.tanh(x / limit);
}
