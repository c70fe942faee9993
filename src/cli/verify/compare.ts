import { ArgumentError } from "../../base/errors.ts";
import type { Divergence } from "../../engine/divergence.ts";
import { exitCodes, interruptible } from "../errors.ts";
import { findFiles, loadModel, type ModelFlags } from "../options.ts";
import { readText } from "../read-file.ts";

export interface CompareFlags extends ModelFlags {
  readonly text?: string;
  readonly maxKl?: number;
  readonly maxTokens?: number;
  readonly json?: boolean;
}

/** `llcuda verify A B`: how far B's predictions are from A's. What is said of adapters is said of B. */
export async function compare(a: string, b: string, flags: CompareFlags): Promise<void> {
  const { compareModels, defaultMaxKl } = await import("../../engine/compare-models.ts");
  const { adapter: _adapter, base: _base, merge: _merge, ...plain } = flags;
  const { maxKl = defaultMaxKl, maxTokens } = flags;
  if (!(maxKl >= 0)) throw new ArgumentError(`--max-kl must be a number of at least 0, got ${maxKl}`);
  const text = flags.text === undefined ? undefined : readText(flags.text);
  for (const files of [await findFiles(a, plain), await findFiles(b, flags)]) files.readConfig();
  const result = await interruptible((signal) =>
    compareModels(
      () => loadModel(a, plain, signal),
      () => loadModel(b, flags, signal),
      { text, maxTokens, signal },
    ),
  );
  const passed = result.meanKl <= maxKl; // NaN does not pass
  const output = flags.json ? `${JSON.stringify({ a, b, passed, maxMeanKl: maxKl, ...result })}\n` : undefined;
  process.stdout.write(output ?? describe(a, b, result, { maxKl, passed }));
  if (!passed) process.exitCode = exitCodes.failed;
}

function describe(a: string, b: string, d: Divergence, { maxKl, passed }: { maxKl: number; passed: boolean }): string {
  const lines = [
    `${b} against ${a}, on ${d.tokens} tokens`,
    `  KL divergence    mean ${nats(d.meanKl)}, 99th percentile ${nats(d.p99Kl)}, largest ${nats(d.maxKl)} nats`,
    `  top-1 agreement  ${(100 * d.top1Agreement).toFixed(1)} %`,
    passed ? `passed: the mean is at most ${maxKl}` : `FAILED: the mean is not at most ${maxKl}`,
  ];
  return `${lines.join("\n")}\n`;
}

function nats(value: number): string {
  return value === 0 || value >= 1e-3 ? value.toFixed(4) : value.toExponential(1);
}
