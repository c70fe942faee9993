/**
 * Reading logits: how probable is each token of an answer, and what would the model have written instead?
 * Run: npx tsx examples/logits.ts
 */
import { AutoModelForCausalLM, tidy } from "llcuda";

using model = await AutoModelForCausalLM.fromPretrained("demo", { dtype: "float32" });
const question = { role: "user", content: "What is the capital of Poland?" };
const answer = { role: "assistant", content: "The capital of Poland is Rome." };
const prompt = model.tokenizer.applyChatTemplate([question]).ids;
const { ids } = model.tokenizer.applyChatTemplate([question, answer], { addGenerationPrompt: false });

// Logits [T, V]: row t is what the model expects at position t + 1.
using logits = await model.logits(ids);
const { probabilities, best } = tidy(() => ({
  probabilities: logits.softmax(-1).cpu().toArray(),
  best: logits.argmax(-1).cpu().toArray(),
}));

const vocabulary = model.network.vocabSize;
let logLikelihood = 0;
for (let t = prompt.length - 1; t + 1 < ids.length; t++) {
  const next = ids[t + 1] as number;
  const probability = Number(probabilities[t * vocabulary + next]);
  logLikelihood += Math.log(probability);
  const token = JSON.stringify(model.tokenizer.decode([next]));
  const rather = JSON.stringify(model.tokenizer.decode([Number(best[t])]));
  console.log(`${token.padEnd(24)} ${(100 * probability).toFixed(2).padStart(6)} %   best: ${rather}`);
}
console.log(`perplexity of the answer ${Math.exp(-logLikelihood / (ids.length - prompt.length)).toFixed(1)}`);
