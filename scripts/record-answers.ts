/**
 * Records what a GPU gives for every instruction form of test/sim/instructions, for CI to compare the software device with.
 *
 *   npm run sim:record                on a machine with a GPU; about a minute
 *     -- --out FILE                   default test/sim/hardware/sm_90.answers
 *
 * An instruction that the driver refuses is named and left out, as are those that the GPU is too old for. A kernel that
 * faults ends the recording, since the context is lost with it. Exit code 1 when anything was left out, 2 without a GPU.
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { CudaError, DeviceError, LibraryError } from "../src/base/errors.ts";
import { openDevice } from "../src/driver/open.ts";
import { writeAnswers } from "../test/sim/instructions/answers.ts";
import type { InstructionCase } from "../test/sim/instructions/case.ts";
import { allCases } from "../test/sim/instructions/catalogue/index.ts";
import { operandsOf, rowCount } from "../test/sim/instructions/operands.ts";
import { InstructionRunner } from "../test/sim/instructions/runner.ts";
import { describeMachine } from "./test-gpu/machine.ts";

function main(): number {
  const file = fileURLToPath(new URL("../test/sim/hardware/sm_90.answers", import.meta.url));
  const { values } = parseArgs({ options: { out: { type: "string", default: file } } });
  const { machine } = describeMachine();
  using device = openDevice("cuda:0");
  using runner = new InstructionRunner(device);
  const answers: { instruction: InstructionCase; results: Uint8Array[] }[] = [];
  let leftOut = 0;
  for (const instruction of allCases) {
    const { name, capability, bound } = instruction;
    if (capability > device.attributes.capability) {
      console.log(`left out: ${name} needs sm_${capability}`);
      leftOut++;
      continue;
    }
    try {
      const results = runner.run(instruction);
      answers.push({ instruction, results });
      const fault = bound?.fault(operandsOf(instruction.inputs), results, rowCount);
      if (fault) console.log(`outside of its bound: ${name}: ${fault}`);
    } catch (error) {
      if (error instanceof CudaError) throw error;
      console.log(`left out: ${name}: ${(error as Error).message}`);
      leftOut++;
    }
  }
  const date = new Date().toISOString().slice(0, 10);
  const bytes = writeAnswers(values.out, { gpu: machine.gpu, driver: machine.driver, date }, answers);
  console.log(
    `${answers.length} instruction forms, ${answers.length * rowCount} operand tuples, on ${machine.gpu}, driver ${machine.driver}: ` +
      `${bytes} bytes in ${values.out}`,
  );
  return leftOut > 0 ? 1 : 0;
}

try {
  process.exitCode = main();
} catch (error) {
  if (!(error instanceof DeviceError || error instanceof LibraryError)) throw error;
  console.error(error.message);
  process.exitCode = 2;
}
