/** Every instruction form on a GPU and on the software device: equal results, or both within the instruction's bound. */
import { afterAll, expect, test } from "vitest";
import { settings } from "../../src/base/settings.ts";
import { SimProvider } from "../../src/sim/provider.ts";
import { describeGpu, gpu } from "../support/gpu.ts";
import { catalogue } from "./instructions/catalogue/index.ts";
import { firstDifference } from "./instructions/compare.ts";
import { operandsOf, rowCount } from "./instructions/operands.ts";
import { InstructionRunner } from "./instructions/runner.ts";

// The instructions are the same whatever PTX the project's own kernels are taken from: once is enough.
const applies = gpu?.api.kind !== "sim" && settings.target() === undefined;

if (!applies) test.skip("instructions on two devices [skipped: needs a GPU, without LLCUDA_TARGET]", () => {});
else {
  describeGpu("instructions on two devices", (device) => {
    const sim = new SimProvider().open("sim:sm_89");
    const runners = gpu ? [new InstructionRunner(device), new InstructionRunner(sim)] : [];
    let [equal, bounded] = [0, 0];

    afterAll(() => {
      for (const runner of runners) runner[Symbol.dispose]();
      sim.dispose();
      console.log(
        `instructions: ${equal + bounded} forms with ${rowCount} operand tuples each, ${(equal + bounded) * rowCount} in all, on ` +
          `${device.attributes.name} and ${sim.name}: ${equal} with equal bits, ${bounded} approximations within their bounds on both`,
      );
    });

    test.each(Object.entries(catalogue))(
      "%s",
      (_, cases) => {
        const faults: string[] = [];
        for (const instruction of cases) {
          if (instruction.capability > device.attributes.capability) continue;
          const [theirs, own] = runners.map((runner) => runner.run(instruction));
          const { bound, name } = instruction;
          let fault: string | undefined;
          if (bound) {
            const operands = operandsOf(instruction.inputs);
            fault = bound.fault(operands, theirs!, rowCount) ?? bound.fault(operands, own!, rowCount);
          } else fault = firstDifference(instruction, own!, theirs!, rowCount);
          if (fault) faults.push(`${name}: ${fault}`);
          else if (bound) bounded++;
          else equal++;
        }
        expect(faults).toEqual([]);
      },
      300_000,
    );
  });
}
