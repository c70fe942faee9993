import { Command } from "commander";
import type { Verification } from "../../engine/verify.ts";
import type { ExpertChoices } from "../../engine/verify-experts.ts";
import { exitCodes, interruptible } from "../errors.ts";
import { addAdapterOptions, addModelOptions, examples, findFiles, loadModel, number } from "../options.ts";
import type { CompareFlags } from "../verify/compare.ts";

interface Flags extends CompareFlags {
  readonly expected?: string;
}

export function verifyCommand(): Command {
  const command = new Command("verify")
    .description("compare a checkpoint with reference logits, or two checkpoints with each other; exit code 0 or 1")
    .argument(
      "<model>",
      "directory with the checkpoint or adapter and expected.safetensors, or NAME.gguf beside NAME.expected.safetensors",
    )
    .argument("[other]", "a second model: how far its predictions are from those of the first")
    .option("--expected <file>", "the reference run, when it is not in the directory")
    .option("--text <file>", "two models: what they read (default: a sample of prose, code and numbers)")
    .option("--max-tokens <count>", "two models: read at most this many tokens (default: 1024)", number)
    .option("--max-kl <nats>", "two models: the largest mean divergence that passes (default: 0.1)", number)
    .option("--json", "print the figures as JSON")
    .addHelpText("after", examples("verify ./checkpoint", "verify ./Llama-3.2-1B ./Llama-3.2-1B-nf4 --max-kl 0.2"));
  return addAdapterOptions(addModelOptions(command)).action(run);
}

async function run(name: string, other: string | undefined, flags: Flags): Promise<void> {
  if (other !== undefined) {
    const { compare } = await import("../verify/compare.ts");
    return compare(name, other, flags);
  }
  const { checkReference, verifyCheckpoint } = await import("../../engine/verify.ts");
  const expected = flags.expected ?? (await findFiles(name, flags)).expectedFile;
  checkReference(expected);
  const { verification, device, dtype } = await interruptible((signal) =>
    verifyCheckpoint((options) => loadModel(name, { ...flags, ...options }, signal), expected),
  );
  const v = verification;
  if (flags.json) process.stdout.write(`${JSON.stringify({ model: name, device, dtype, ...v })}\n`);
  else process.stdout.write(describe(`${name} on ${device}, ${dtype}`, v));
  if (!v.passed) process.exitCode = exitCodes.failed;
}

/** What compares with float32's choice of experts says so: its errors are those of the same experts. */
function describeExperts({ choices, different, relativeL2 }: ExpertChoices): string {
  return `as a float32 run chooses them: ${choices - different} of ${choices} choices are the same in this dtype, whose router logits err by ${relativeL2.toExponential(2)}`;
}

function describe(title: string, v: Verification): string {
  const undecided = v.greedyIsUndecided ? " (the reference's own margin is below this run's error)" : "";
  const rotary =
    v.relativeL2WithExactRotary === undefined
      ? v.rotaryDtype
      : `rounded to ${v.rotaryDtype}, as a PyTorch model moved to that dtype has them; with float32 the error is ${v.relativeL2WithExactRotary.toExponential(2)}`;
  const lines = [
    title,
    `  relative L2 error   ${v.relativeL2.toExponential(2)}, at most ${v.bound.toExponential(0)}`,
    `  largest difference  ${v.largestDifference.toExponential(2)}`,
    `  top-1 agreement     ${(100 * v.top1Agreement).toFixed(1)} %`,
    `  greedy tokens       ${v.greedyMatched} of ${v.greedyTokens}${undecided}`,
    `  rotary frequencies  ${rotary}`,
    ...(v.experts ? [`  experts             ${describeExperts(v.experts)}`] : []),
    v.passed ? "passed" : "FAILED",
  ];
  return `${lines.join("\n")}\n`;
}
