import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bfloat16, float16, float32 } from "../../../src/base/dtype.ts";
import { decodeArray, encodeArray } from "../../../src/base/element.ts";
import { FormatError, UnsupportedError } from "../../../src/base/errors.ts";
import { ggmlType } from "../../../src/base/ggml.ts";
import { GgufParts } from "../../../src/formats/gguf/parts.ts";
import type { GgufValue } from "../../../src/formats/gguf/values.ts";
import { GgufWeights } from "../../../src/formats/gguf/weights.ts";
import { type GgufTensorToWrite, writeGguf } from "../../../src/formats/gguf/write.ts";
import { openCheckpoint } from "../../../src/formats/safetensors/checkpoint.ts";
import { modelMetadata } from "../../support/gguf-metadata.ts";
import { interleaveRows } from "../../support/gguf-model.ts";
import { seededInts, thrownBy } from "../support.ts";

const fixtures = join(import.meta.dirname, "../../fixtures");
const demo = join(fixtures, "../../models/demo");
let scratch = "";
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "llcuda-gguf-weights-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

let files = 0;
function weightsOf(metadata: ReadonlyMap<string, GgufValue>, tensors: readonly GgufTensorToWrite[]): GgufWeights {
  const path = join(scratch, `w${files++}.gguf`);
  writeGguf(path, metadata, tensors);
  const parts = GgufParts.open(path);
  try {
    return new GgufWeights(parts);
  } catch (error) {
    parts.close();
    throw error;
  }
}

const numbered = (rows: number, columns: number) =>
  Float32Array.from({ length: rows * columns }, (_, i) => Math.floor(i / columns) + (i % columns) / 1000);
const f32 = (name: string, shape: readonly number[], data?: Float32Array): GgufTensorToWrite => ({
  name,
  type: ggmlType("F32"),
  shape,
  data: data ?? new Float32Array(shape.reduce((a, b) => a * b, 1)),
});

const interleaved = (rows: number, columns: number, headDim: number) =>
  new Float32Array(interleaveRows(new Uint8Array(numbered(rows, columns).buffer), rows, headDim).buffer);

describe("the file that gguf-py wrote, against the checkpoint that it was made from", () => {
  const open = () => new GgufWeights(GgufParts.open(join(fixtures, "demo-chat.Q4_K_M.gguf")));

  test("names and shapes are the checkpoint's", () => {
    using gguf = open();
    using checkpoint = openCheckpoint(demo);
    const shapes = (source: { tensors: ReadonlyMap<string, { shape: readonly number[] }> }) =>
      Object.fromEntries([...source.tensors].map(([name, { shape }]) => [name, shape]));
    expect(shapes(gguf)).toEqual(shapes(checkpoint));
    const types = new Set([...gguf.tensors.values()].map((info) => info.dtype));
    expect([...types].sort()).toEqual(["F32", "Q4_K", "Q6_K"]);
  });

  test("norms are the same numbers", () => {
    using gguf = open();
    using checkpoint = openCheckpoint(demo);
    for (const [name, info] of gguf.tensors) {
      if (!name.endsWith("norm.weight")) continue;
      const original = checkpoint.tensors.get(name)!.elementType!;
      const expected = Float32Array.from(decodeArray(original, original.view(checkpoint.read(name))));
      expect(info.elementType).toBe(float32);
      expect(new Float32Array(gguf.read(name).buffer)).toEqual(expected);
    }
  });

  test("every row of queries and keys is in its place", () => {
    using gguf = open();
    using checkpoint = openCheckpoint(demo);
    for (const name of ["model.layers.0.self_attn.q_proj.weight", "model.layers.3.self_attn.k_proj.weight"]) {
      const original = checkpoint.tensors.get(name)!;
      const [rows, columns] = original.shape as [number, number];
      const expected = decodeArray(original.elementType!, original.elementType!.view(checkpoint.read(name)));
      const found = dequantizeQ4K(gguf.read(name));
      for (let row = 0; row < rows; row++) {
        let error = 0;
        let norm = 0;
        for (let i = row * columns; i < (row + 1) * columns; i++) {
          error += (found[i]! - expected[i]!) ** 2;
          norm += expected[i]! ** 2;
        }
        // 4 bits leave less than a tenth; a row in another's place would be off by 1.4.
        expect(Math.sqrt(error / norm)).toBeLessThan(0.12);
      }
    }
  });
});

/** Eight sub-blocks of 32 with 6-bit scales and minima. Source: ggml's description of block_q4_K. */
function dequantizeQ4K(bytes: Uint8Array): Float64Array {
  const f16 = (at: number) => decodeArray(float16, Uint16Array.of(bytes[at]! | (bytes[at + 1]! << 8)))[0]!;
  const out = new Float64Array((bytes.length / 144) * 256);
  for (let block = 0; block < bytes.length / 144; block++) {
    const at = block * 144;
    const [d, dmin] = [f16(at), f16(at + 2)];
    const s = bytes.subarray(at + 4, at + 16);
    for (let sub = 0; sub < 8; sub++) {
      const high = (i: number) => (s[i - 4]! >> 6) << 4;
      const scale = sub < 4 ? s[sub]! & 63 : (s[sub + 4]! & 15) | high(sub);
      const min = sub < 4 ? s[sub + 4]! & 63 : (s[sub + 4]! >> 4) | high(sub + 4);
      for (let i = 0; i < 32; i++) {
        const byte = bytes[at + 16 + Math.floor(sub / 2) * 32 + i]!;
        const code = sub % 2 === 0 ? byte & 15 : byte >> 4;
        out[block * 256 + sub * 32 + i] = d * scale * code - dmin * min;
      }
    }
  }
  return out;
}

describe("rows of queries and keys", () => {
  const metadata = modelMetadata("llama", { heads: 3, kvHeads: 1, headDim: 8, width: 24 });
  const tensors = [
    f32("blk.0.attn_q.weight", [24, 5], interleaved(24, 5, 8)),
    f32("blk.0.attn_k.weight", [8, 5], interleaved(8, 5, 8)),
    f32("blk.0.attn_v.weight", [8, 5], numbered(8, 5)),
    f32("blk.0.attn_q.bias", [24], interleaved(24, 1, 8)),
  ];

  test("are put back, whole and in any range", async () => {
    using weights = weightsOf(metadata, tensors);
    const layer = "model.layers.0.self_attn.";
    const floats = (name: string) => new Float32Array(weights.read(layer + name).buffer);
    expect(floats("q_proj.weight")).toEqual(numbered(24, 5));
    expect(floats("k_proj.weight")).toEqual(numbered(8, 5));
    expect(floats("v_proj.weight")).toEqual(numbered(8, 5));
    expect(floats("q_proj.bias")).toEqual(numbered(24, 1));
    const info = weights.tensors.get(`${layer}q_proj.weight`)!;
    const whole = weights.read(info.name);
    const next = seededInts(3);
    for (let i = 0; i < 200; i++) {
      const offset = next(whole.length);
      const target = new Uint8Array(next(whole.length - offset + 1));
      if (i % 2 === 0) weights.readIntoSync(info, offset, target);
      else await weights.readInto(info, offset, target);
      expect(Buffer.compare(target, whole.subarray(offset, offset + target.length))).toBe(0);
    }
    expect(thrownBy(() => weights.readIntoSync(info, 1, new Uint8Array(whole.length)))?.message).toMatch(/not within/);
  });

  test("of quantized weights keep their blocks", () => {
    const type = ggmlType("Q8_0");
    const wide = modelMetadata("llama", { heads: 2, kvHeads: 2, headDim: 4, width: 8 });
    // Each row is two blocks; their bytes are the number of the row that the checkpoint has there.
    const order = [0, 2, 1, 3, 4, 6, 5, 7];
    const data = Uint8Array.from({ length: 8 * 68 }, (_, i) => order[Math.floor(i / 68)]!);
    using weights = weightsOf(wide, [{ name: "blk.0.attn_k.weight", type, shape: [8, 64], data }]);
    const found = weights.read("model.layers.0.self_attn.k_proj.weight");
    expect(weights.tensors.values().next().value?.ggml).toBe(type);
    expect(Array.from({ length: 8 }, (_, row) => found[row * 68 + 67])).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  test("of other architectures stay", () => {
    const qwen = modelMetadata("qwen2", { heads: 3, kvHeads: 1, headDim: 8, width: 24 });
    using weights = weightsOf(qwen, [f32("blk.0.attn_q.weight", [24, 5], numbered(24, 5))]);
    expect(new Float32Array(weights.read("model.layers.0.self_attn.q_proj.weight").buffer)).toEqual(numbered(24, 5));
  });

  test("that are no whole heads are refused", () => {
    const error = thrownBy(() => weightsOf(metadata, [f32("blk.0.attn_q.weight", [12, 5])]));
    expect(error).toBeInstanceOf(FormatError);
    expect(error!.message).toMatch(/q_proj.weight is \[12, 5\]; expected rows in whole heads of 8/);
  });
});

describe("norms of Gemma", () => {
  test("have the one taken from them, exactly for weights that were bfloat16", () => {
    const next = seededInts(9);
    const small = () => (next(2) ? 1 : -1) * (next(256) + 1) * 2 ** -(next(8) + 8);
    const original = Float32Array.from({ length: 300 }, small);
    const weights = decodeArray(bfloat16, encodeArray(bfloat16, original));
    const metadata = modelMetadata("gemma3", { heads: 2, kvHeads: 1, headDim: 8, width: 16 });
    const stored = Float32Array.from(weights, (w) => w + 1);
    const names = ["output_norm", "blk.0.attn_norm", "blk.0.attn_q_norm", "blk.0.post_ffw_norm"];
    using source = weightsOf(
      metadata,
      names.map((name) => f32(`${name}.weight`, [300], stored)),
    );
    expect([...source.tensors.keys()]).toEqual([
      "model.norm.weight",
      "model.layers.0.input_layernorm.weight",
      "model.layers.0.self_attn.q_norm.weight",
      "model.layers.0.post_feedforward_layernorm.weight",
    ]);
    for (const name of source.tensors.keys()) {
      expect(new Float32Array(source.read(name).buffer)).toEqual(Float32Array.from(weights));
    }
  });
});

describe("mixtures of experts", () => {
  const metadata = modelMetadata("llama", { heads: 1, kvHeads: 1, headDim: 4, width: 4, experts: 3 });

  test("merged ones come apart, each with its bytes", () => {
    const data = numbered(3 * 6, 4);
    using weights = weightsOf(metadata, [
      f32("blk.1.ffn_gate_exps.weight", [3, 6, 4], data),
      f32("blk.1.ffn_gate_inp.weight", [3, 4]),
    ]);
    const expert = (e: number) => `model.layers.1.block_sparse_moe.experts.${e}.w1.weight`;
    expect([...weights.tensors.keys()]).toEqual([
      ...[0, 1, 2].map(expert),
      "model.layers.1.block_sparse_moe.gate.weight",
    ]);
    for (const e of [0, 1, 2]) {
      expect(weights.tensors.get(expert(e))?.shape).toEqual([6, 4]);
      expect(new Float32Array(weights.read(expert(e)).buffer)).toEqual(data.subarray(e * 24, (e + 1) * 24));
    }
  });

  test("single ones, as older files have them, and Qwen's names", () => {
    using old = weightsOf(metadata, [f32("blk.0.ffn_down.2.weight", [4, 6])]);
    expect([...old.tensors.keys()]).toEqual(["model.layers.0.block_sparse_moe.experts.2.w2.weight"]);
    const qwen = modelMetadata("qwen3moe", { heads: 1, kvHeads: 1, headDim: 4, width: 4, experts: 2 });
    using named = weightsOf(qwen, [
      f32("blk.0.ffn_up_exps.weight", [2, 6, 4]),
      f32("blk.0.ffn_gate_inp.weight", [2, 4]),
    ]);
    expect([...named.tensors.keys()]).toEqual([
      "model.layers.0.mlp.experts.0.up_proj.weight",
      "model.layers.0.mlp.experts.1.up_proj.weight",
      "model.layers.0.mlp.gate.weight",
    ]);
  });
});

describe("tensors and architectures with no place", () => {
  const llama = modelMetadata("llama", { heads: 1, kvHeads: 1, headDim: 4, width: 4 });

  test.each(["blk.0.ssm_a.weight", "blk.0.ffn_gate_exps.weight", "blk.x.attn_q.weight", "toString.weight", "other"])(
    "%s is refused by name",
    (name) => {
      const error = thrownBy(() => weightsOf(llama, [f32(name, [4, 4])]));
      expect(error).toBeInstanceOf(UnsupportedError);
      expect(error!.message).toContain(`tensor "${name}" has no place in a model of type llama`);
    },
  );

  test("an architecture that is not known lists those that are", () => {
    const rwkv = modelMetadata("rwkv6", { heads: 1, kvHeads: 1, headDim: 4, width: 4 });
    expect(thrownBy(() => weightsOf(rwkv, []))?.message).toMatch(
      /architecture "rwkv6" is not supported; .* llama, qwen2/,
    );
  });

  test("rotary tensors are no weights", () => {
    using weights = weightsOf(llama, [
      ...["rope_freqs", "rope_factors_long", "blk.0.attn_rot_embd"].map((name) => f32(`${name}.weight`, [2])),
      f32("output_norm.weight", [4]),
    ]);
    expect([...weights.tensors.keys()]).toEqual(["model.norm.weight"]);
  });
});
