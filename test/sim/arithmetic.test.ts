/** Float arithmetic on the software device against exact arithmetic in whole numbers: a reference that owes hardware nothing. */
import { afterAll, describe, expect, test } from "vitest";
import { SimProvider } from "../../src/sim/provider.ts";
import { add, decode, type Exact, encode, formats, multiply, negate, type Rounding } from "./exact.ts";
import { type InstructionCase, simple } from "./instructions/case.ts";
import { operandsOf, rowCount } from "./instructions/operands.ts";
import { InstructionRunner } from "./instructions/runner.ts";
import { registerBytes, sourceRegister } from "./instructions/sources.ts";

const device = new SimProvider().open("sim:sm_89");
const runner = new InstructionRunner(device);
afterAll(() => {
  runner[Symbol.dispose]();
  device.dispose();
});

type Operation = (operands: Exact[], mode: Rounding) => Exact;
const operations: Record<string, Operation> = {
  add: ([a, b], mode) => add(a!, b!, mode),
  sub: ([a, b], mode) => add(a!, negate(b!), mode),
  mul: ([a, b]) => multiply(a!, b!),
  fma: ([a, b, c], mode) => add(multiply(a!, b!), c!, mode),
  cvt: ([a]) => a!,
};

function bitsOf(bytes: Uint8Array, row: number, width: number): bigint {
  let value = 0n;
  for (let i = width - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[row * width + i]!);
  return value;
}

/** Compares every result with the exact one, rounded once; any NaN for NaN. Returns how many were compared. */
function check(
  instruction: InstructionCase,
  operation: Operation,
  mode: Rounding,
  from: keyof typeof formats,
  to: keyof typeof formats,
): void {
  const operands = operandsOf(instruction.inputs);
  const [found] = runner.run(instruction);
  const widths = instruction.inputs.map((source) => registerBytes(sourceRegister(source)));
  const width = formats[to].bits / 8;
  for (let row = 0; row < rowCount; row++) {
    const values = operands.map((bytes, i) => decode(formats[from], bitsOf(bytes, row, widths[i]!)));
    const want = encode(formats[to], operation(values, mode), mode);
    const bits = bitsOf(found!, row, width);
    const isSame = want === undefined ? decode(formats[to], bits) === "nan" : bits === want;
    if (!isSame) expect([instruction.name, values, bits]).toEqual([instruction.name, values, want ?? "NaN"]);
  }
}

const modes = ["rn", "rz", "rm", "rp"] as const;
const arities = { add: 2, sub: 2, mul: 2, fma: 3 } as const;
const registers = { f32: "f32", f64: "f64", f16: "b16", bf16: "b16" } as const;
const arithmetic = [
  ...(["f32", "f64"] as const).flatMap((type) =>
    modes.flatMap((mode) => (["add", "sub", "mul", "fma"] as const).map((op) => ({ op, mode, type }))),
  ),
  ...(["add", "sub", "mul", "fma"] as const).map((op) => ({ op, mode: "rn" as const, type: "f16" as const })),
  { op: "fma" as const, mode: "rn" as const, type: "bf16" as const },
];

describe("float arithmetic against exact arithmetic", () => {
  test.each(arithmetic)("$op.$mode.$type", ({ op, mode, type }) => {
    const capability = type === "bf16" ? 80 : 60;
    const inputs = Array<typeof type>(arities[op]).fill(type);
    const instruction = simple(`${op}.${mode}.${type}`, inputs, registers[type], { capability });
    check(instruction, operations[op]!, mode, type, type);
  });

  const conversions = [
    ...modes.flatMap((mode) =>
      (
        [
          ["f32", "f64"],
          ["f16", "f32"],
          ["f16", "f64"],
        ] as const
      ).map(([to, from]) => ({ mode, to, from })),
    ),
    ...(["rn", "rz"] as const).map((mode) => ({ mode, to: "bf16" as const, from: "f32" as const })),
  ];
  test.each(conversions)("cvt.$mode.$to.$from", ({ mode, to, from }) => {
    const instruction = simple(`cvt.${mode}.${to}.${from}`, [from], registers[to], { capability: 80 });
    check(instruction, operations.cvt!, mode, from, to);
  });
});
