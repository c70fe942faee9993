/**
 * How the next token is drawn, and where an answer ends. Run: npx tsx examples/sampling.ts
 */
import { ArgumentError, AutoModelForCausalLM } from "llcuda";

using model = await AutoModelForCausalLM.fromPretrained("demo");
const prompt = [{ role: "user", content: "Tell me a short story." }];

// The same seed gives the same answer, whatever else runs; without one, each call draws its own.
for (const seed of [1, 1, 2]) {
  const { text } = await model.generate(prompt, { temperature: 0.9, topP: 0.95, seed });
  console.log(`seed ${seed}: ${text}\n`);
}

// Stop strings end an answer wherever tokens end, and are not part of it.
const cut = await model.generate([{ role: "user", content: "Count from 64 to 73." }], { temperature: 0, stop: ", 70" });
console.log(`${cut.text} (stopped before ${JSON.stringify(cut.stopString)})`);

// What is wrong with an option is said in one sentence, by an error with a code.
try {
  await model.generate(prompt, { temperature: Number.NaN });
} catch (error) {
  if (!(error instanceof ArgumentError)) throw error;
  console.log(`${error.code}: ${error.message}`);
}
