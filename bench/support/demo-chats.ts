import { fileURLToPath } from "node:url";
import type { LanguageModel } from "../../src/engine/language-model.ts";
import { type Perplexity, PerplexityMeter } from "../../src/engine/perplexity.ts";
import { SafetensorsFile } from "../../src/formats/safetensors/file.ts";

const file = fileURLToPath(new URL("../../test/fixtures/demo-chat/perplexity.safetensors", import.meta.url));

/** The demonstration model's vocabulary, whose ids the chats are. */
const vocab = 1024;

/**
 * The perplexity of a form of the demonstration model on the 64 chats of the file: exp of the mean of
 * -log P over the 1301 tokens of the assistant's answers, each given its chat so far. Undefined for another vocabulary.
 */
export async function chatPerplexity(model: LanguageModel): Promise<Perplexity | undefined> {
  if (model.network.vocabSize !== vocab) return undefined;
  const meter = new PerplexityMeter();
  for (const { ids, scored } of readChats()) {
    const values = await model.logLikelihoods(ids);
    meter.add(values.filter((_, i) => scored[i + 1]));
  }
  return meter.result();
}

/** Chats without the padding after their last scored token; `scored` is 1 where a token counts. */
function* readChats(): Generator<{ readonly ids: readonly number[]; readonly scored: Uint8Array }> {
  using chats = SafetensorsFile.open(file);
  const [rows, length] = chats.tensors.get("input_ids")!.shape as [number, number];
  const all = new Int32Array(chats.read("input_ids").slice().buffer);
  const masks = chats.read("scored");
  for (let begin = 0; begin < rows * length; begin += length) {
    const scored = masks.subarray(begin, begin + length);
    const end = scored.lastIndexOf(1) + 1;
    yield { ids: Array.from(all.subarray(begin, begin + end)), scored: scored.subarray(0, end) };
  }
}
