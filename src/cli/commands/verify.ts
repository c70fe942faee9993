import { Command } from "commander";
import type { Verification } from "../../engine/verify.ts";
import type { ExpertChoices } from "../../engine/verify-experts.ts";
import { exitCodes, interruptible } from "../errors.ts";
import { addModelOptions, loadModel, type ModelFlags } from "../options.ts";

interface Flags extends ModelFlags {
  readonly json?: boolean;
  readonly expected?: string;
}

export function verifyCommand(): Command {
  const command = new Command("verify")
    .description("compare a checkpoint with the reference logits in its expected.safetensors; exit code 0 or 1")
    .argument(
      "<model>",
      "directory with the checkpoint and expected.safetensors, or NAME.gguf beside NAME.expected.safetensors",
    )
    .option("--expected <file>", "the reference run, when it is not in the directory")
    .option("--json", "print the figures as JSON");
  return addModelOptions(command).action(run);
}

async function run(name: string, flags: Flags): Promise<void> {
  const { checkReference, verifyCheckpoint } = await import("../../engine/verify.ts");
  const { findModel } = await import("../../models/find-model.ts");
  const expected = flags.expected ?? findModel(name).expectedFile;
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
