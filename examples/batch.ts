/**
 * Several prompts at once: the GPU reads the weights once for all of them. Run: npx tsx examples/batch.ts
 */
import { AutoModelForCausalLM, type ChatMessage } from "llcuda";

using model = await AutoModelForCausalLM.fromPretrained("demo");

const questions = ["What is 12 + 30?", "What is the capital of Poland?", "Sort 52, 47, 39.", "Spell the word quartz."];
const prompts = questions.map((content): ChatMessage[] => [{ role: "user", content }]);

const begin = performance.now();
const answers = await model.generateAll(prompts, { temperature: 0 });
const seconds = (performance.now() - begin) / 1000;

for (const [i, question] of questions.entries()) console.log(`${question} ${answers[i]?.text}`);
const tokens = answers.reduce((sum, answer) => sum + answer.tokenIds.length, 0);
console.log(`${tokens} tokens, ${(tokens / seconds).toFixed(0)} tok/s, loading of kernels included`);
