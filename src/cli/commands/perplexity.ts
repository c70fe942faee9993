import { Command } from "commander";
import type { TextPerplexity } from "../../engine/perplexity.ts";
import { interruptible } from "../errors.ts";
import {
  addAdapterOptions,
  addModelOptions,
  examples,
  findFiles,
  loadModel,
  type ModelFlags,
  number,
} from "../options.ts";
import { readText } from "../read-file.ts";
import { ProgressBar } from "../terminal.ts";

interface Flags extends ModelFlags {
  readonly text?: string;
  readonly window?: number;
  readonly stride?: number;
  readonly maxTokens?: number;
  readonly json?: boolean;
}

export function perplexityCommand(): Command {
  const command = new Command("perplexity")
    .description("say how well a model predicts a text: the perplexity of its tokens")
    .argument("<model>", "directory of a model or adapter, a .gguf file, or demo")
    .option("--text <file>", "what it reads, UTF-8 (default: a short sample of prose, code and numbers)")
    .option(
      "--window <tokens>",
      "read this many tokens at a time (default: 2048, or the context if that is less)",
      number,
    )
    .option("--stride <tokens>", "from one window to the next (default: half a window)", number)
    .option("--max-tokens <count>", "read at most this many tokens (default: all)", number)
    .option("--json", "print the figures as JSON")
    .addHelpText(
      "after",
      examples("perplexity ./Llama-3.2-1B --text wiki.test.raw", "perplexity ./model.Q4_K_M.gguf --text notes.txt"),
    );
  return addAdapterOptions(addModelOptions(command)).action(run);
}

async function run(name: string, flags: Flags): Promise<void> {
  const { window, stride, maxTokens } = flags;
  const text = flags.text === undefined ? undefined : readText(flags.text);
  (await findFiles(name, flags)).readConfig();
  const { measurePerplexity } = await import("../../engine/perplexity.ts");
  const { device, dtype, ...result } = await interruptible(async (signal) => {
    using model = await loadModel(name, flags, signal);
    const bar = new ProgressBar("reading tokens", (count) => count.toFixed(0));
    try {
      const onProgress = (p: { doneTokens: number; totalTokens: number }) => bar.update(p.doneTokens, p.totalTokens);
      const result = await measurePerplexity(model, { text, window, stride, maxTokens, signal, onProgress });
      return { device: model.device.name, dtype: model.network.dtype.name, ...result };
    } finally {
      bar.end();
    }
  });
  process.stdout.write(
    flags.json
      ? `${JSON.stringify({ model: name, device, dtype, ...result })}\n`
      : describe(`${name} on ${device}, ${dtype}`, result),
  );
}

function describe(
  title: string,
  { perplexity, standardError, meanNll, tokens, window, stride }: TextPerplexity,
): string {
  const cut = tokens < window ? "read at once" : `in windows of ${window}, each ${stride} after the one before`;
  const lines = [
    title,
    `  perplexity  ${figure(perplexity)} ± ${figure(standardError)}`,
    `  mean        ${figure(meanNll)} nats a token`,
    `  tokens      ${tokens} predicted, ${cut}`,
  ];
  return `${lines.join("\n")}\n`;
}

function figure(value: number): string {
  return value < 100 ? value.toFixed(4) : value.toPrecision(6);
}
