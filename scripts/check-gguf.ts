/**
 * Loads GGUF files with llama.cpp and compares logits, token ids and the rendered chat template with llcuda's own.
 *
 *     npm install --prefix DIR node-llama-cpp                        llama.cpp, built for the CPU; not a dependency of llcuda
 *     node --import tsx scripts/check-gguf.ts --llama-cpp DIR FILE.gguf ...
 *
 * llcuda computes in float32. llama.cpp rounds activations to suit the type of the weights, so that only those of F32 files must be
 * equal. Exit code 0 or 1; 2 where llama.cpp is not there, or no file is named.
 */
import { basename } from "node:path";
import { parseArgs } from "node:util";
import { ArgumentError } from "../src/base/errors.ts";
import { LanguageModel } from "../src/engine/language-model.ts";
import { compareLogits } from "../src/engine/reference-run.ts";
import { GgufParts } from "../src/formats/gguf/parts.ts";
import { registerSim } from "../src/sim/register.ts";
import { LlamaCpp, type LlamaCppModel } from "./check-gguf/llama-cpp.ts";

/**
 * Bounds on the relative L2 error, by the type of the matrices. llama.cpp has activations in float32 beside F32 weights, in float16
 * and bfloat16 beside these, and in blocks of eight bits beside blocks. Its GELU is a table of float16, so that Gemma's error is more.
 */
const bounds: Partial<Record<string, number>> = { F32: 2e-5, F16: 1e-2, BF16: 3e-2 };
const geluBound = 1e-3;
const blockBound = 8e-2;

const promptTokens = 96;
const texts = [
  "Hello, world! What is 41 + 17?",
  "  two spaces, a tab\tand\n\nlines  \n",
  "é 안녕 中文 ½ ﬁ  🙂👩‍👩‍👧",
  "I'LL don't 1234567 x=3.14; [a](b) ___ ...!?",
  "<|begin_of_text|><s>user</s><|im_start|>\n <|user|>\n hi<|end|>\n<|endoftext|> <end_of_turn>\n",
  " ",
  "",
];

const messages = [
  { role: "user", content: "What is 41 + 17?" },
  { role: "assistant", content: "58" },
  { role: "user", content: "Sort 3, 1, 2" },
];

/** The type that the matrices of the layers have, and a sliding window that llama.cpp passes over, as it does outside Gemma. */
function inspect(file: string): { type: string; unusedWindow: number | undefined; isMixture: boolean } {
  using parts = GgufParts.open(file);
  const architecture = parts.metadata.require("text", "general.architecture");
  const window = parts.metadata.find("size", `${architecture}.attention.sliding_window`);
  return {
    type: parts.tensors.get("blk.0.attn_output.weight")!.type.name,
    unusedWindow: architecture.startsWith("gemma") ? undefined : window,
    isMixture: parts.tensors.has("blk.0.ffn_gate_inp.weight"),
  };
}

async function check(file: string, theirs: LlamaCppModel): Promise<boolean> {
  using ours = await LanguageModel.fromPretrained(file, { dtype: "float32" });
  const { vocabSize } = ours.network;
  const { type, unusedWindow, isMixture } = inspect(file);
  const length = Math.min(promptTokens, unusedWindow ?? promptTokens);
  const ids = Array.from({ length }, (_, i) => (i * 37 + 11) % vocabSize);
  using logits = await ours.logits(ids);
  const got = await theirs.logits(ids, vocabSize);
  const want = logits.cpu().data as Float32Array;
  const { relativeL2, top1Agreement } = compareLogits(got, want, vocabSize);
  const bound = Math.max(bounds[type] ?? blockBound, ours.config.hiddenAct.startsWith("gelu") ? geluBound : 0);
  let line = `${type}, relative L2 ${relativeL2.toExponential(1)}, same best token ${percent(top1Agreement)}`;
  let judged = relativeL2;
  if (isMixture && type !== "F32") {
    // Rounding sends a token whose experts are nearly equally probable to another one, which is another result and no error.
    judged = medianRow(got, want, vocabSize);
    line += `, median of tokens ${judged.toExponential(1)}`;
  }
  const problems = judged <= bound ? [] : [`relative L2 above ${bound}`];
  for (const text of texts) {
    const [mine, other] = [ours.tokenizer.encode(text), theirs.encode(text)];
    if (String(mine) !== String(other)) {
      problems.push(`ids of ${JSON.stringify(text)}: llcuda [${mine}], llama.cpp [${other}]`);
    }
  }
  const rendered = theirs.render(messages);
  if (rendered !== undefined) {
    const { text } = ours.tokenizer.applyChatTemplate(messages);
    if (text !== rendered) {
      problems.push(`chat: llcuda ${JSON.stringify(text)}, llama.cpp ${JSON.stringify(rendered)}`);
    }
    line += ", with a chat template";
  }
  const verdict = problems.length === 0 ? "passed" : "FAILED";
  process.stdout.write(`${basename(file)}: ${line}: ${verdict}\n${problems.map((one) => `  ${one}\n`).join("")}`);
  return problems.length === 0;
}

function medianRow(got: Float32Array, want: Float32Array, vocabulary: number): number {
  const row = (values: Float32Array, r: number) => values.subarray(r * vocabulary, (r + 1) * vocabulary);
  const errors = Array.from({ length: want.length / vocabulary }, (_, r) => {
    return compareLogits(row(got, r), row(want, r), vocabulary).relativeL2;
  });
  return errors.sort((a, b) => a - b)[errors.length >> 1]!;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    options: { "llama-cpp": { type: "string", default: "." } },
    allowPositionals: true,
  });
  if (positionals.length === 0) throw new ArgumentError("no .gguf file was named; name one or more");
  registerSim();
  const llama = await LlamaCpp.open(values["llama-cpp"]);
  process.stdout.write(`llama.cpp ${llama.version}\n`);
  let failed = 0;
  for (const file of positionals) {
    try {
      const model = await llama.load(file);
      if (!(await check(file, model))) failed++;
      await model.dispose();
    } catch (error) {
      failed++;
      process.stdout.write(`${basename(file)}: FAILED: ${error instanceof Error ? error.message : error}\n`);
    }
  }
  await llama.dispose();
  return failed > 0 ? 1 : 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof ArgumentError)) throw error;
  console.error(error.message);
  process.exitCode = 2;
}
