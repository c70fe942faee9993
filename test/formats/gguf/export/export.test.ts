import { createHash } from "node:crypto";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bfloat16 } from "../../../../src/base/dtype.ts";
import { FormatError, UnsupportedError } from "../../../../src/base/errors.ts";
import { ggmlType } from "../../../../src/base/ggml.ts";
import { findGgufArchitecture } from "../../../../src/formats/gguf/architectures.ts";
import { ggufPlace } from "../../../../src/formats/gguf/export/names.ts";
import { planGgufTensors } from "../../../../src/formats/gguf/export/tensors.ts";
import { GgufFile } from "../../../../src/formats/gguf/file.ts";
import { GgufMetadata } from "../../../../src/formats/gguf/metadata.ts";
import { checkpointNames } from "../../../../src/formats/gguf/names.ts";
import { findModelFiles } from "../../../../src/formats/model-files/model-files.ts";
import { openCheckpoint } from "../../../../src/formats/safetensors/checkpoint.ts";
import { writeCheckpoint } from "../../../../src/formats/safetensors/write.ts";
import { storedWeights } from "../../../../src/formats/stored/stored-weights.ts";
import { Tokenizer } from "../../../../src/formats/tokenizer/tokenizer.ts";
import type { GgufFormat } from "../../../../src/models/export/formats.ts";
import { exportGguf as exportModel } from "../../../../src/models/export/gguf.ts";
import { ropeFrequencies } from "../../../../src/nn/rope-frequencies.ts";
import { modelMetadata } from "../../../support/gguf-metadata.ts";
import { writeModelGguf } from "../../../support/gguf-model.ts";
import { writeSmallTokenizer } from "../../../support/small-tokenizer.ts";
import { thrownBy } from "../../support.ts";

const fixtures = join(import.meta.dirname, "../../../fixtures");
const demo = join(fixtures, "../../models/demo");
let scratch = "";
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "llcuda-export-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** Plain weights need no device. */
async function exportGguf(directory: string, path: string, format: GgufFormat): Promise<void> {
  const noDevice = (): never => {
    throw new Error("no device is needed");
  };
  await exportModel(findModelFiles(directory), path, noDevice, { format, pure: true });
}

/** A golden checkpoint with a tokenizer beside it. */
function withTokenizer(fixture: string, tokenizer: string): string {
  const directory = join(scratch, `${fixture}-${tokenizer}`);
  cpSync(join(fixtures, fixture), directory, { recursive: true });
  const config = JSON.parse(readFileSync(join(directory, "config.json"), "utf8"));
  writeSmallTokenizer(join(fixtures, tokenizer), directory, config.vocab_size);
  // Files say only the usual scale of attention's scores.
  if ("query_pre_attn_scalar" in config) config.query_pre_attn_scalar = config.head_dim;
  writeFileSync(join(directory, "config.json"), JSON.stringify(config));
  return directory;
}

describe("the demonstration model", () => {
  test.each([
    ["q4_0", "d11a0351e546b75866d236de3fc5445cd3cbe69bae6102e40b1f3ad7ee72dda9"],
    ["q8_0", "459dcc31694c040f28b961cfa4d19bf21166bcb5a8a25067f43fc87b8c512645"],
  ] as const)("as %s has the bytes of llama.cpp's file", async (type, sha256) => {
    const path = join(scratch, `demo.${type}.gguf`);
    await exportGguf(demo, path, type);
    using weights = findModelFiles(path).openWeights();
    const hash = createHash("sha256");
    for (const name of [...weights.tensors.keys()].sort()) hash.update(weights.read(name));
    expect(hash.digest("hex")).toBe(sha256);
  });

  test("has the metadata of gguf-py's file", async () => {
    const path = join(scratch, "demo.gguf");
    await exportGguf(demo, path, "q8_0");
    using ours = GgufFile.open(path);
    using theirs = GgufFile.open(join(fixtures, "demo-chat.Q4_K_M.gguf"));
    const differing = new Set(["general.name", "general.file_type"]);
    for (const [key, value] of theirs.metadata.entries) {
      if (!differing.has(key)) expect([key, ours.metadata.entries.get(key)]).toEqual([key, value]);
    }
    const names = ({ tensors }: GgufFile) => [...tensors.values()].map(({ name, shape }) => `${name} ${shape}`).sort();
    expect(names(ours)).toEqual(names(theirs));
  });
});

describe.each([
  ["llama3-gqa-bf16", "tok-llama3"],
  ["llama31-rope-scaling", "tok-llama3"],
  ["mistral-sliding", "tok-llama2"],
  ["qwen2-bias", "tok-qwen"],
  ["qwen3-qknorm", "tok-qwen"],
  ["gemma2", "tok-gemma"],
  ["gemma3-text", "tok-gemma"],
  ["phi3-fused", "tok-llama2"],
])("%s with %s", (fixture, tokenizer) => {
  test("comes back as it was", async () => {
    const directory = withTokenizer(fixture, tokenizer);
    const path = join(scratch, `${fixture}.gguf`);
    await exportGguf(directory, path, "bf16");
    const [original, exported] = [findModelFiles(directory), findModelFiles(path)];
    const numbers = (files: typeof original) => {
      const { source: _, raw: __, padTokenId: ___, eosTokenIds, bosTokenId, rmsNormEps, ...rest } = files.readConfig();
      const { rope, slidingRope } = rest;
      const scaling = rope.type === "llama3" || rope.type === "longrope" ? undefined : { rope, slidingRope };
      return { ...rest, rope: scaling, slidingRope: scaling, attentionScale: Math.fround(rest.attentionScale) };
    };
    expect(numbers(exported)).toEqual(numbers(original));
    // GGUF keeps Llama 3's scaling as its divisors: its words come back for the published models, the frequencies for all.
    const [want, got] = [original, exported].map((files) => {
      const { rope, rotaryDim } = files.readConfig();
      return ropeFrequencies(rope, rotaryDim).frequencies;
    });
    for (const [i, frequency] of want!.entries()) expect(got![i]! / frequency).toBeCloseTo(1, 6);
    using before = original.openWeights();
    using after = exported.openWeights();
    expect([...after.tensors.keys()].sort()).toEqual([...before.tensors.keys()].sort());
    for (const [name, { dtype }] of after.tensors) {
      if (dtype === "BF16") expect(Buffer.compare(after.read(name), before.read(name))).toBe(0);
    }
    const text = "Hello, world! 1234 <|im_end|> é</s> 안녕";
    const ids = (files: typeof original) => new Tokenizer(files.readTokenizer()).encode(text);
    expect(ids(exported)).toEqual(ids(original));
    expect([...exported.readTemplates().templates]).toEqual([...original.readTemplates().templates]);
  });

  test("has the tensors that llama.cpp's converter would write", async () => {
    const directory = withTokenizer(fixture, tokenizer);
    const [ours, theirs] = [join(scratch, `${fixture}.ours.gguf`), join(scratch, `${fixture}.theirs.gguf`)];
    await exportGguf(directory, ours, "bf16");
    writeModelGguf(directory, theirs, { dtype: bfloat16 });
    using a = GgufFile.open(ours);
    using b = GgufFile.open(theirs);
    const bytes = (file: GgufFile) =>
      Object.fromEntries(
        [...file.tensors.values()].sort().map(({ name, type, shape, byteOffset, byteLength }) => {
          const data = new Uint8Array(byteLength);
          file.readSync(data, byteOffset);
          return [
            name,
            `${type.name} [${shape}] ${name === "rope_freqs.weight" ? "" : createHash("md5").update(data).digest("hex")}`,
          ];
        }),
      );
    expect(bytes(a)).toEqual(bytes(b));
  });
});

describe("names", () => {
  test.each(["llama", "qwen3moe", "gemma3", "phi3"])("of %s are the reverse of those that are read", (name) => {
    const metadata = new GgufMetadata(
      "test",
      modelMetadata(name, { heads: 1, kvHeads: 1, headDim: 4, width: 4, experts: 4 }),
    );
    const architecture = findGgufArchitecture(metadata);
    const names = Object.keys(architecture.layer).map((base) => `blk.3.${base}.weight`);
    for (const tensor of [...names, "token_embd.weight", "output.weight", "blk.0.ffn_up_exps.weight"]) {
      const isExperts = tensor.includes("_exps");
      if (isExperts && !architecture.experts) continue;
      const shape = isExperts ? [2, 3, 4] : [3, 4];
      const info = { name: tensor, type: ggmlType("F32"), shape, file: "test", byteOffset: 0, byteLength: 48 };
      for (const { name: named, part } of checkpointNames(info, architecture)) {
        expect(ggufPlace(named, architecture)).toEqual(
          part === undefined ? { name: tensor } : { name: tensor, expert: part },
        );
      }
    }
  });
});

describe("mixtures of experts", () => {
  const architecture = findGgufArchitecture(
    new GgufMetadata("test", modelMetadata("llama", { heads: 1, kvHeads: 1, headDim: 4, width: 32, experts: 3 })),
  );
  const expert = (e: number, rows = 2) => ({
    name: `model.layers.0.block_sparse_moe.experts.${e}.w1.weight`,
    dtype: "float32" as const,
    shape: [rows, 32],
    data: new Float32Array(rows * 32).fill(e + 1),
  });
  const tensorsOf = (experts: ReturnType<typeof expert>[]) => {
    const directory = mkdtempSync(join(scratch, "experts-"));
    writeCheckpoint(directory, experts);
    using weights = openCheckpoint(directory);
    const options = { architecture, type: ggmlType("F32"), pure: true, path: directory };
    return planGgufTensors(storedWeights(weights), options);
  };

  test("become one tensor, in their order", () => {
    const [tensor] = tensorsOf([expert(2), expert(0), expert(1)]);
    expect(tensor).toMatchObject({ name: "blk.0.ffn_gate_exps.weight", shape: [3, 2, 32] });
    expect(tensor!.weights.map(({ name }) => name)).toEqual([expert(0), expert(1), expert(2)].map(({ name }) => name));
  });

  test("that are missing or differ are refused", () => {
    expect(thrownBy(() => tensorsOf([expert(0), expert(2)]))).toBeInstanceOf(FormatError);
    expect(thrownBy(() => tensorsOf([expert(0), expert(1, 3)]))?.message).toMatch(
      /experts of blk.0.ffn_gate_exps.weight are/,
    );
  });

  test("tensors without a place are refused by name", () => {
    const odd = { ...expert(0), name: "model.layers.0.self_attn.sinks" };
    expect(thrownBy(() => tensorsOf([odd]))).toBeInstanceOf(UnsupportedError);
    expect(thrownBy(() => tensorsOf([odd]))?.message).toMatch(/tensor "model.layers.0.self_attn.sinks" has no place/);
  });
});
