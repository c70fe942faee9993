/**
 * Writes llcuda.safetensors into folders that llcuda exported: token ids, float32 logits of them, and the ids of a text, for
 * scripts/check-export.py to compare with transformers. Usage: node --import tsx scripts/export-logits.ts DIR ...
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { LanguageModel } from "../src/engine/language-model.ts";
import { writeSafetensors } from "../src/formats/safetensors/write.ts";
import { registerSim } from "../src/sim/register.ts";

const text = "Hello, world! What is 41 + 17? é 안녕";
const count = 24;

registerSim();
for (const directory of process.argv.slice(2)) {
  using model = await LanguageModel.fromPretrained(directory, { dtype: "float32" });
  const { vocabSize } = model.network;
  const ids = Int32Array.from({ length: count }, (_, i) => (i * 37 + 11) % vocabSize);
  using logits = await model.logits([...ids]);
  const hasTokenizer = existsSync(join(directory, "tokenizer.json"));
  const textIds = Int32Array.from(hasTokenizer ? model.tokenizer.encode(text) : []);
  writeSafetensors(join(directory, "llcuda.safetensors"), [
    { name: "input_ids", dtype: "int32", shape: [count], data: ids },
    { name: "logits", dtype: "float32", shape: [count, vocabSize], data: logits.cpu().data },
    { name: "text_ids", dtype: "int32", shape: [textIds.length], data: textIds },
  ]);
  process.stdout.write(`${directory}: ${logits.device.name}\n`);
}
