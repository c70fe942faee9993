import { existsSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { LanguageModel } from "../../src/engine/language-model.ts";
import { verifyCheckpoint, verifyModel } from "../../src/engine/verify.ts";
import { readModelConfig } from "../../src/formats/config/model-config.ts";
import { describeGpu } from "../support/gpu.ts";

const folder = fileURLToPath(new URL("../fixtures/", import.meta.url));
const checkpoints = readdirSync(folder).filter(
  (name) => existsSync(`${folder}${name}/config.json`) && existsSync(`${folder}${name}/expected.safetensors`),
);

// References that were computed after moving the whole model to its stored dtype, which rounds the rotary frequencies; the
// others were loaded by from_pretrained, which does not.
const roundedRotary = new Set(["llama3-gqa-bf16", "qwen2-bias", "qwen3-qknorm"]);

describeGpu("golden checkpoints", (device) => {
  for (const name of [...checkpoints, "demo"]) {
    test.each(["float32", "float16", "bfloat16"])(`${name} in %s gives the reference's logits`, async (dtype) => {
      const isDemo = name === "demo";
      const path = isDemo ? name : `${folder}${name}`;
      const rotaryDtype = roundedRotary.has(name) ? readModelConfig(path).dtype!.name : "float32";
      using model = await LanguageModel.fromPretrained(path, { device, dtype, rotaryDtype });
      const result = await verifyModel(model, `${folder}${isDemo ? "demo-chat" : name}/expected.safetensors`);
      expect({ ...result, passed: true }).toEqual(result);
    });
  }

  test("verifyCheckpoint finds out how a reference held its rotary frequencies, and says so", async () => {
    const load = (name: string) => (options: object) =>
      LanguageModel.fromPretrained(name, { device, dtype: "float32", ...options });
    const golden = await verifyCheckpoint(load(`${folder}qwen2-bias`));
    expect(golden.verification.passed).toBe(true);
    expect(golden.verification.rotaryDtype).toBe("bfloat16");
    expect(golden.verification.relativeL2WithExactRotary! > 1e-3).toBe(true);
    const demo = await verifyCheckpoint(load("demo"), `${folder}demo-chat/expected.safetensors`);
    expect(demo.verification.passed).toBe(true);
    expect(demo.verification.rotaryDtype).toBe("float32");
    expect(demo.verification.relativeL2WithExactRotary).toBe(undefined);
  });
});
