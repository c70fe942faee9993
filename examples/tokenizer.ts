/**
 * Text to tokens and back, and chat templates. Needs no GPU. Run: npx tsx examples/tokenizer.ts [model directory]
 */
import { AutoTokenizer } from "llcuda";

const tokenizer = AutoTokenizer.fromPretrained(process.argv[2] ?? "demo");

const ids = tokenizer.encode("How are you?");
console.log(ids.map((id) => `${id} ${JSON.stringify(tokenizer.idToToken(id))}`).join(", "));
console.log(tokenizer.decode(ids, { skipSpecialTokens: true }));

const { text } = tokenizer.applyChatTemplate([
  { role: "system", content: "Answer in one word." },
  { role: "user", content: "Capital of Poland?" },
]);
console.log(text);

// Token by token, text comes out as soon as it is certain: a character that takes several tokens comes whole.
const stream = tokenizer.stream();
for (const id of tokenizer.encode("naïve 🙂", { addSpecialTokens: false }))
  console.log(id, JSON.stringify(stream.push(id)));
console.log(JSON.stringify(stream.end()));
