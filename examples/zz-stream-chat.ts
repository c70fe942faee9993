/**
 * A dialogue, streamed; Ctrl-C stops the answer. Run: npx tsx examples/stream-chat.ts [model directory]
 */
import { AutoModelForCausalLM, type ChatMessage } from "llcuda";

using model = await AutoModelForCausalLM.fromPretrained(process.argv[2] ?? "demo");

const stop = new AbortController();
process.once("SIGINT", () => stop.abort());

const dialogue: ChatMessage[] = [];
for (const question of ["Who are you?", "Count from 64 to 73."]) {
  console.log(`> ${question}`);
  dialogue.push({ role: "user", content: question });
  let text = "";
  try {
    for await (const chunk of model.stream(dialogue, { temperature: 0, signal: stop.signal })) {
      // Chunks are whole characters, and never the beginning of a stop string.
      process.stdout.write(chunk.text);
      text += chunk.text;
    }
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    console.log(" (stopped)");
    break;
  }
  console.log();
  dialogue.push({ role: "assistant", content: text });
}
