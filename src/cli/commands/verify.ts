import { Command } from "commander";
import { verifyModel } from "../../engine/verify.ts";
import { exitCodes, interruptSignal } from "../errors.ts";
import { addModelOptions, loadModel, type ModelFlags } from "../options.ts";

interface Flags extends ModelFlags {
  readonly json?: boolean;
  readonly expected?: string;
}

export function verifyCommand(): Command {
  const command = new Command("verify")
    .description("compare a checkpoint with the reference logits in its expected.safetensors; exit code 0 or 1")
    .argument("<dir>", "directory with the checkpoint and expected.safetensors")
    .option("--expected <file>", "the reference run, when it is not in the directory")
    .option("--json", "print the figures as JSON");
  return addModelOptions(command).action(run);
}

async function run(name: string, flags: Flags): Promise<void> {
  using model = await loadModel(name, flags, interruptSignal());
  const v = await verifyModel(model, flags.expected);
  const dtype = model.network.dtype.name;
  if (flags.json) {
    process.stdout.write(`${JSON.stringify({ model: name, device: model.device.name, dtype, ...v })}\n`);
  } else {
    const undecided = v.greedyIsUndecided ? " (the reference's own margin is below this run's error)" : "";
    process.stdout.write(
      [
        `${name} on ${model.device.name}, ${dtype}`,
        `  relative L2 error   ${v.relativeL2.toExponential(2)}, at most ${v.bound.toExponential(0)}`,
        `  largest difference  ${v.largestDifference.toExponential(2)}`,
        `  top-1 agreement     ${(100 * v.top1Agreement).toFixed(1)} %`,
        `  greedy tokens       ${v.greedyMatched} of ${v.greedyTokens}${undecided}`,
        v.passed ? "passed" : "FAILED",
        "",
      ].join("\n"),
    );
  }
  if (!v.passed) process.exitCode = exitCodes.failed;
}
