import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { LanguageModel } from "../../src/engine/language-model.ts";
import { verifyModel } from "../../src/engine/verify.ts";
import { describeGpu } from "../support/gpu.ts";

const folder = fileURLToPath(new URL("../fixtures/", import.meta.url));

describeGpu("quantized models", (device) => {
  // In float16 values are those of the codes; bitsandbytes rounds them to the checkpoint's bfloat16 first.
  test.each(["float32", "bfloat16"])("bitsandbytes NF4, nested, with modules left out, in %s", async (dtype) => {
    const path = `${folder}bnb-nf4-skip`;
    using model = await LanguageModel.fromPretrained(path, { device, dtype });
    const result = await verifyModel(model, `${path}/expected.safetensors`);
    expect({ ...result, passed: true }).toEqual(result);
    const types = [...model.network.quantizedWeights()].map((weight) => weight.type);
    // Layer 0 keeps its feed-forward, layer 1 its output projection.
    expect(types).toEqual(["nf4", "nf4", "nf4", "nf4", "nf4"]);
  });

  test.each(["float32", "float16"])("GGUF Q4_K_M, whose projections have types of their own, in %s", async (dtype) => {
    using model = await LanguageModel.fromPretrained(`${folder}demo-chat.Q4_K_M.gguf`, { device, dtype });
    const result = await verifyModel(model, `${folder}demo-chat.Q4_K_M.expected.safetensors`);
    expect({ ...result, passed: true }).toEqual(result);
    const types = new Set([...model.network.quantizedWeights()].map((weight) => weight.type));
    expect([...types].sort()).toEqual(["Q4_K", "Q6_K"]);
  });

  test.each(["nf4", "fp4"])("16-bit weights become %s while they are loaded", async (quantization) => {
    using plain = await LanguageModel.fromPretrained("demo", { device, dtype: "float16" });
    using model = await LanguageModel.fromPretrained("demo", { device, dtype: "float16", quantization });
    expect(new Set([...model.network.quantizedWeights()].map((weight) => weight.type))).toEqual(
      new Set([quantization]),
    );
    expect(model.network.parameterCount).toBe(plain.network.parameterCount);
    expect(model.network.parameterBytes).toBeLessThan(plain.network.parameterBytes * 0.5);
    // Four bits move logits by some percent; this model is trained, and goes on choosing the same tokens.
    const { relativeL2, top1Agreement } = await verifyModel(model, `${folder}demo-chat/expected.safetensors`);
    expect(relativeL2).toBeGreaterThan(1e-3);
    expect(relativeL2).toBeLessThan(0.2);
    expect(top1Agreement).toBeGreaterThan(0.9);
    await expect(LanguageModel.fromPretrained("demo", { device, quantization: "int3" })).rejects.toThrow(/nf4 or fp4/);
  });
});
