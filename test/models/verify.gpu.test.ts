import { existsSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { LanguageModel } from "../../src/engine/language-model.ts";
import { verifyModel } from "../../src/engine/verify.ts";
import { describeGpu } from "../support/gpu.ts";

const folder = fileURLToPath(new URL("../fixtures/", import.meta.url));
const checkpoints = readdirSync(folder).filter(
  (name) => existsSync(`${folder}${name}/config.json`) && existsSync(`${folder}${name}/expected.safetensors`),
);

describeGpu("golden checkpoints", (device) => {
  for (const name of [...checkpoints, "demo"]) {
    test.each(["float32", "float16", "bfloat16"])(`${name} in %s gives the reference's logits`, async (dtype) => {
      const path = name === "demo" ? name : `${folder}${name}`;
      using model = await LanguageModel.fromPretrained(path, { device, dtype });
      const result = await verifyModel(model, `${folder}${name === "demo" ? "demo-chat" : name}/expected.safetensors`);
      expect({ ...result, passed: true }).toEqual(result);
    });
  }
});
