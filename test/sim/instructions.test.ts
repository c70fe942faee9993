/**
 * Every instruction form of the catalogue on the software device, against what hardware gave: recorded answers, so that this
 * runs without a GPU. `instructions.gpu.test.ts` compares the devices directly; `npm run sim:record` makes the file anew.
 */
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { SimProvider } from "../../src/sim/provider.ts";
import { differingRows, hashRows, keptRows, readAnswers } from "./instructions/answers.ts";
import { type InstructionCase, snippet } from "./instructions/case.ts";
import { allCases, catalogue } from "./instructions/catalogue/index.ts";
import { firstDifference } from "./instructions/compare.ts";
import { operandsOf, rowCount } from "./instructions/operands.ts";
import { InstructionRunner } from "./instructions/runner.ts";

const answers = readAnswers(fileURLToPath(new URL("hardware/sm_90.answers", import.meta.url)), allCases);
const device = new SimProvider().open("sim:sm_89");
const runner = new InstructionRunner(device);
afterAll(() => {
  runner[Symbol.dispose]();
  device.dispose();
});

/** What is wrong with the results of a case, or with hardware's; undefined when nothing is. */
function fault(instruction: InstructionCase): string | undefined {
  const answer = answers.of(instruction);
  if (!answer) return "there is no answer of hardware to this: run `npm run sim:record` on a machine with a GPU";
  const found = runner.run(instruction);
  const { bound } = instruction;
  const rows = keptRows(instruction);
  if (bound) {
    const operands = operandsOf(instruction.inputs);
    const own = bound.fault(operands, found, rowCount);
    const theirs = bound.fault(operands, answer.kept, rows);
    return own ?? (theirs && `on hardware: ${theirs}`);
  }
  const difference = firstDifference(instruction, found, answer.kept, rows);
  if (difference) return difference;
  const first = differingRows(hashRows(instruction, found), answer.hashes);
  return first === undefined ? undefined : `results differ somewhere in rows ${first} to ${first + 511}`;
}

describe.each(Object.entries(catalogue))(`%s, as on ${answers.gpu}, driver ${answers.driver}`, (_, cases) => {
  test.each(cases.map((instruction) => ({ name: instruction.name, instruction })))("$name", ({ instruction }) => {
    expect(fault(instruction)).toBeUndefined();
  });
});

test("names are unique, and hardware's answers are of these operands", () => {
  expect(new Set(allCases.map(({ name }) => name)).size).toBe(allCases.length);
  expect(operandsOf(["u32", "u32"]).map((bytes) => bytes.byteLength)).toEqual([4 * rowCount, 4 * rowCount]);
});

test("an instruction that is not known is named, with its kernel and line", () => {
  expect(() => runner.run(snippet("vadd.u32.u32.u32 %o0, %i0, %i0;", ["u32"], "b32"))).toThrow(
    /instruction vadd\.u32\.u32\.u32 in k .*PTX line \d+\) is not implemented/,
  );
});
