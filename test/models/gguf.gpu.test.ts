import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bfloat16, float16 } from "../../src/base/dtype.ts";
import { LanguageModel } from "../../src/engine/language-model.ts";
import { verifyModel } from "../../src/engine/verify.ts";
import { writeModelGguf } from "../support/gguf-model.ts";
import { describeGpu } from "../support/gpu.ts";

const fixtures = fileURLToPath(new URL("../fixtures/", import.meta.url));
const demo = fileURLToPath(new URL("../../models/demo/", import.meta.url));
let scratch = "";
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "llcuda-gguf-model-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

describeGpu("a model from one GGUF file and nothing else", (device) => {
  test("gives the checkpoint's logits, and chats with the embedded tokenizer and template", async () => {
    const path = join(scratch, "demo.gguf");
    writeModelGguf(demo, path, { pre: "qwen2", dtype: float16 });
    using model = await LanguageModel.fromPretrained(path, { device });
    expect(model.network.dtype).toBe(float16);
    const result = await verifyModel(model, join(fixtures, "demo-chat/expected.safetensors"));
    expect({ ...result, passed: true }).toEqual(result);
    const { text } = await model.generate([{ role: "user", content: "What is 41 + 17?" }], { temperature: 0 });
    expect(text).toBe("41 + 17 = 58");
  });

  // That each architecture comes back from GGUF as it was, test/formats/gguf/export says; this one has the most to undo.
  test("gemma3-text gives the reference's logits", async () => {
    const name = "gemma3-text";
    const path = join(scratch, `${name}.gguf`);
    writeModelGguf(join(fixtures, name), path, { dtype: bfloat16 });
    using model = await LanguageModel.fromPretrained(path, { device, dtype: "float32" });
    const result = await verifyModel(model, join(fixtures, name, "expected.safetensors"));
    expect({ ...result, passed: true }).toEqual(result);
  });
});
