import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import type { Device } from "../../src/driver/device.ts";
import { type FromPretrainedOptions, LanguageModel } from "../../src/engine/language-model.ts";
import { readModelConfig } from "../../src/formats/config/model-config.ts";
import { openCheckpoint } from "../../src/formats/safetensors/checkpoint.ts";
import { type TensorToWrite, writeCheckpoint } from "../../src/formats/safetensors/write.ts";
import { quantizeModel } from "../../src/models/export/quantize-model.ts";
import { MixtureOfExperts } from "../../src/nn/moe.ts";
import { QuantizedWeight } from "../../src/tensor/quantized-weight.ts";
import { describeGpu, gpu, relativeL2 } from "../support/gpu.ts";
import { writeSmallTokenizer } from "../support/small-tokenizer.ts";
import { fixtures } from "./variant.ts";

let scratch = "";
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "llcuda-experts-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** Few rows an expert, and many: 4 of 12 and 3 of 5 experts a token. */
const prompts = [5, 120].map((tokens) => Array.from({ length: tokens }, (_, i) => (i * 37 + 11) % 160));

async function logitsOf(path: string, device: Device, options: FromPretrainedOptions = {}): Promise<Float32Array[]> {
  using model = await LanguageModel.fromPretrained(path, { device, ...options });
  const all: Float32Array[] = [];
  for (const prompt of prompts) {
    using logits = await model.logits(prompt);
    all.push(logits.toArray() as Float32Array);
  }
  return all;
}

/** The type of every expert weight in memory: gate and up, then down, by layer. */
function expertTypes(model: LanguageModel): string[] {
  const mixtures = [...model.network.modules()].filter((module) => module instanceof MixtureOfExperts);
  return mixtures.flatMap(({ gateUp, down }) =>
    [gateUp, down].map((weight) => (weight instanceof QuantizedWeight ? weight.type : weight.dtype.name)),
  );
}

const models = ["mixtral-5x3", "qwen3-moe-12x4"];
const holdsBfloat16 = (gpu?.attributes.capability ?? 80) >= 80;

describeGpu("quantized experts", (device) => {
  const on = { device: device?.name };
  async function quantize(name: string, to: string): Promise<string> {
    const path = join(scratch, `${name}-${to}${to.startsWith("nf4") ? "" : ".gguf"}`);
    const source = join(scratch, name);
    mkdirSync(source, { recursive: true });
    for (const file of ["config.json", "generation_config.json", "model.safetensors"]) {
      copyFileSync(join(fixtures, name, file), join(source, file));
    }
    writeSmallTokenizer(join(fixtures, "tok-llama3"), source, readModelConfig(source).vocabSize);
    await quantizeModel(source, path, { to, force: true, ...on });
    return path;
  }

  // In float32 only the order of sums differs; in float16 such a difference may round what lies between layers the other way.
  const dtypes = [["float32", 2e-5] as const, ["float16", 3e-3] as const];
  const cases = models.flatMap((name) => ["nf4", "nf4-dq", "q8_0"].map((to) => [name, to] as const));
  // GGUF cannot say that layers have no experts.
  test.each(cases.filter(([name, to]) => name === "mixtral-5x3" || to !== "q8_0"))(
    "%s in %s stays so in memory, and computes what its dequantized weights do",
    async (name, to) => {
      const path = await quantize(name, to);
      const plain = join(scratch, `${name}-${to}-plain`);
      await quantizeModel(path, plain, { to: "f32", force: true, ...on });
      for (const [dtype, bound] of dtypes) {
        using model = await LanguageModel.fromPretrained(path, { device, dtype });
        const types = new Set(expertTypes(model));
        expect(types).toContain(to === "q8_0" ? "Q8_0" : "nf4");
        if (to !== "q8_0") expect(types.size).toBe(1);
        const [got, want] = [await logitsOf(path, device, { dtype }), await logitsOf(plain, device, { dtype })];
        for (const [i, logits] of got.entries()) expect(relativeL2(logits, want[i]!)).toBeLessThan(bound);
      }
    },
  );

  test.skipIf(!holdsBfloat16).each(models)("%s: quantized on loading or saved so, it is the same", async (name) => {
    const path = await quantize(name, "nf4");
    const source = join(fixtures, name);
    using model = await LanguageModel.fromPretrained(source, { device, quantization: "nf4" });
    expect(new Set(expertTypes(model))).toEqual(new Set(["nf4"]));
    expect(await logitsOf(source, device, { quantization: "nf4" })).toEqual(await logitsOf(path, device));
    for (const from of [source, path]) {
      using loaded = await LanguageModel.fromPretrained(from, {
        device,
        ...(from === source && { quantization: "nf4" }),
      });
      const saved = join(scratch, "saved");
      await loaded.savePretrained(saved, { force: true });
      const [own, first] = [saved, path].map((folder) => readFileSync(join(folder, "model.safetensors")));
      expect(own!.equals(first!)).toBe(true);
    }
  });

  test("an expert that was left plain makes its layer's weight plain, and one line says so", async () => {
    const path = await quantize("mixtral-5x3", "nf4");
    const mixed = join(scratch, "mixed");
    const left = "model.layers.1.block_sparse_moe.experts.3.w2.weight";
    const tensors: TensorToWrite[] = [];
    using quantized = openCheckpoint(path);
    using whole = openCheckpoint(join(fixtures, "mixtral-5x3"));
    for (const info of [...quantized.tensors.values(), whole.tensors.get(left)!]) {
      if (info.name.startsWith(left) && !whole.tensors.has(info.name)) continue;
      const source = info.name === left ? whole : quantized;
      const from = source.tensors.get(info.name)!;
      if (tensors.some(({ name: other }) => other === info.name)) continue;
      const dtype = from.elementType!;
      tensors.push({
        name: info.name,
        dtype: dtype.name,
        shape: from.shape,
        data: dtype.view(source.read(info.name).slice()),
      });
    }
    writeCheckpoint(mixed, tensors);
    copyFileSync(join(path, "config.json"), join(mixed, "config.json"));
    const warn = vi.spyOn(process, "emitWarning").mockImplementation(() => {});
    try {
      using model = await LanguageModel.fromPretrained(mixed, { device, dtype: "float16" });
      expect(expertTypes(model)).toEqual(["nf4", "nf4", "nf4", "float16"]);
      expect(warn).toHaveBeenCalledWith(
        expect.stringMatching(/not stored in one quantized type \(nf4, bfloat16\).*layers\.1\..*held in float16/),
        { type: "LlcudaWarning" },
      );
    } finally {
      warn.mockRestore();
    }
  });
});
