/**
 * One prompt, one answer. Run: npx tsx examples/generate.ts [model directory]
 */
import { AutoModelForCausalLM } from "llcuda";

const name = process.argv[2] ?? "demo";

// `using` frees the model's GPU memory at the end of the block; model.dispose() does it earlier.
using model = await AutoModelForCausalLM.fromPretrained(name);

// Messages go through the model's chat template; a plain string is continued as it stands.
const answer = await model.generate([{ role: "user", content: "What is 41 + 17?" }], { temperature: 0 });
console.log(answer.text);
console.log(`${answer.promptTokens} + ${answer.tokenIds.length} tokens, ended by ${answer.finishReason}`);
