import { afterAll, describe, expect, test } from "vitest";
import { ArgumentError, StateError } from "../../../src/base/errors.ts";
import { Profiler } from "../../../src/sim/profile/profiler.ts";
import { formatInstruction } from "../../../src/sim/ptx/format.ts";
import type { RegisterValue, TraceStep } from "../../../src/sim/trace/trace-step.ts";
import { type KernelTrace, type TraceOptions, Tracer } from "../../../src/sim/trace/tracer.ts";
import { Tensor } from "../../../src/tensor/tensor.ts";
import { kernelText, launch, openSim } from "../support.ts";

const device = openSim();
const memory = device.allocate(4096);
afterAll(() => memory.dispose());

function trace(body: string, options: TraceOptions, threads = 64, declarations = ""): KernelTrace {
  using tracer = new Tracer(device, options);
  const ptx = kernelText(body, 1, declarations);
  launch(device, { ptx, args: { p0: "ptr" } }, { grid: [2, 2], block: threads }, { p0: memory.ptr });
  return tracer.kernels[0]!;
}

const values = (list: readonly RegisterValue[]) => list.map(({ register, bits }) => `${register}=${bits}`).join(" ");

/** `instruction | operands | results`, without the lines that every kernel of kernelText begins with. */
function told({ steps }: KernelTrace): string[] {
  const tell = ({ instruction, operands, results }: TraceStep) =>
    [formatInstruction(instruction), values(operands), values(results)].join(" | ");
  return steps.slice(2).map(tell);
}

describe("a traced thread", () => {
  test("every instruction with what it read and left, of the thread that was asked for", () => {
    const result = trace("  mov.u32 %r1, %ctaid.y;\n  add.u32 %r2, %r0, %r1;\n  neg.s32 %r2, %r2;", {
      block: [0, 1, 0],
      thread: [40, 0, 0],
    });
    expect(told(result)).toEqual([
      "mov.u32 %r1, %ctaid.y |  | %r1=1",
      "add.u32 %r2, %r0, %r1 | %r0=40 %r1=1 | %r2=41",
      "neg.s32 %r2, %r2 | %r2=41 | %r2=4294967255",
      "ret |  | ",
    ]);
    expect(result.count).toBe(6);
    expect(result.steps.map(({ instruction }) => instruction.line)).toEqual([12, 13, 14, 15, 16, 17]);
  });

  test("branches, loops, and instructions whose predicate does not hold", () => {
    const result = trace(
      `
  mov.u32 %r1, 0;
LOOP:
  add.u32 %r1, %r1, 1;
  setp.lt.u32 %p1, %r1, %r0;
  @%p1 bra LOOP;
  @%p1 mov.u32 %r1, 99;
  @!%p1 mov.u32 %r2, %r1;`,
      { thread: [2, 0, 0] },
    );
    expect(told(result)).toEqual([
      "mov.u32 %r1, 0 |  | %r1=0",
      "add.u32 %r1, %r1, 1 | %r1=0 | %r1=1",
      "setp.lt.u32 %p1, %r1, %r0 | %r1=1 %r0=2 | %p1=1",
      "@%p1 bra LOOP | %p1=1 | ",
      "add.u32 %r1, %r1, 1 | %r1=1 | %r1=2",
      "setp.lt.u32 %p1, %r1, %r0 | %r1=2 %r0=2 | %p1=0",
      "@%p1 bra LOOP | %p1=0 | ",
      "@%p1 mov.u32 %r1, 99 | %p1=0 | ",
      "@!%p1 mov.u32 %r2, %r1 | %r1=2 %p1=0 | %r2=2",
      "ret |  | ",
    ]);
    expect(result.steps.filter(({ executed }) => !executed).map(({ instruction }) => instruction.text)).toEqual([
      "mov.u32",
    ]);
  });

  test("what lanes and blocks do together", () => {
    const result = trace(
      `
  shfl.sync.bfly.b32 %r1|%p1, %r0, 1, 31, -1;
  setp.eq.u32 %p2, %r1, 36;
  vote.sync.ballot.b32 %r2, %p2, -1;
  bar.sync 0;
  bar.red.popc.u32 %r3, 0, %p2;
  bar.warp.sync -1;
  add.u32 %r4, %r2, %r3;`,
      { thread: [37, 0, 0] },
    );
    expect(told(result)).toEqual([
      "shfl.sync.bfly.b32 %r1|%p1, %r0, 1, 31, -1 | %r0=37 | %r1=36 %p1=1",
      "setp.eq.u32 %p2, %r1, 36 | %r1=36 | %p2=1",
      "vote.sync.ballot.b32 %r2, %p2, -1 | %p2=1 | %r2=32",
      "bar.sync 0 |  | ",
      "bar.red.popc.u32 %r3, 0, %p2 | %p2=1 | %r3=1",
      "bar.warp.sync -1 |  | ",
      "add.u32 %r4, %r2, %r3 | %r2=32 %r3=1 | %r4=33",
      "ret |  | ",
    ]);
  });

  test("addresses of accesses, in each space", () => {
    const result = trace(
      `
  mul.wide.u32 %rd2, %r0, 8;
  add.s64 %rd3, %rd0, %rd2;
  st.global.v2.u32 [%rd3], {%r0, %r0};
  ld.global.u64 %rd4, [%rd3];
  atom.global.add.u32 %r1, [%rd3+4], 1;
  mov.u32 %r2, tile;
  st.shared.u32 [%r2+16], %r0;
  cp.async.ca.shared.global [tile], [%rd0], 8;
  st.local.u32 [own+4], %r0;
  ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r3}, [%r2];`,
      { thread: [3, 0, 0], block: [1, 0, 0] },
      32,
      ".shared .align 16 .b8 tile[512];\n.local .align 8 .b8 own[8];",
    );
    const accesses = result.steps.flatMap((step) => step.accesses.map((access) => [step.instruction.name, access]));
    const own = memory.ptr + 24n;
    expect(accesses).toEqual([
      ["st", { kind: "writes", space: "global", address: own, bytes: 8 }],
      ["ld", { kind: "reads", space: "global", address: own, bytes: 8 }],
      ["atom", { kind: "updates", space: "global", address: own + 4n, bytes: 4 }],
      ["st", { kind: "writes", space: "shared", address: 16n, bytes: 4 }],
      ["cp", { kind: "writes", space: "shared", address: 0n, bytes: 8 }],
      ["cp", { kind: "reads", space: "global", address: memory.ptr, bytes: 8 }],
      ["st", { kind: "writes", space: "local", address: 4n, bytes: 4 }],
      ["ldmatrix", { kind: "reads", space: "shared", address: 0n, bytes: 16 }],
    ]);
    const load = result.steps.find(
      ({ instruction }) => instruction.name === "ld" && instruction.text.includes("global"),
    )!;
    expect(load.results).toEqual([{ register: "%rd4", type: "b64", bits: (3n << 32n) | 3n }]);
  });

  test("floats as their bits, also of 64", () => {
    const result = trace(
      "  cvt.rn.f32.u32 %f1, %r0;\n  cvt.f64.f32 %d1, %f1;\n  mul.f64 %d2, %d1, 0d3FE0000000000000;",
      { thread: [3, 0, 0] },
      32,
      ".reg .f64 %d<3>;",
    );
    expect(told(result).slice(0, 3)).toEqual([
      `cvt.rn.f32.u32 %f1, %r0 | %r0=3 | %f1=${0x40400000}`,
      `cvt.f64.f32 %d1, %f1 | %f1=${0x40400000} | %d1=${0x4008000000000000n}`,
      `mul.f64 %d2, %d1, 0.5 | %d1=${0x4008000000000000n} | %d2=${0x3ff8000000000000n}`,
    ]);
  });
});

describe("the tracer", () => {
  const loop = `
  mov.u32 %r1, 0;
LOOP:
  add.u32 %r1, %r1, 1;
  setp.lt.u32 %p1, %r1, 1000;
  @%p1 bra LOOP;`;

  test("keeps a part, and counts all", () => {
    const { count, steps } = trace(loop, { skip: 100, limit: 3 });
    expect(count).toBe(3 + 3000 + 1);
    expect(steps.map(({ instruction }) => instruction.name)).toEqual(["setp", "bra", "add"]);
    expect(trace(loop, { limit: 0 }).steps).toEqual([]);
  });

  test("a thread or block that is not there leaves an empty trace", () => {
    expect(trace(loop, { thread: [64, 0, 0] }).count).toBe(0);
    expect(trace(loop, { block: [2, 0, 0] }).count).toBe(0);
  });

  test("the first launch of each kernel, or of one", () => {
    using x = Tensor.ones([100], { device });
    using tracer = new Tracer(device, { thread: [5, 0, 0], kernel: "softmax_f32" });
    x.add(1).dispose();
    x.softmax(-1).dispose();
    const { count } = tracer.kernels[0]!;
    x.softmax(-1).dispose();
    expect(tracer.kernels.map(({ kernel, count }) => ({ kernel, count }))).toEqual([{ kernel: "softmax_f32", count }]);
    expect(tracer.kernels[0]!.steps[0]!.instruction.source).toBeDefined();
  });

  test("a launch that fails leaves the trace up to there", () => {
    const ptx = kernelText("  mul.wide.u32 %rd1, %r0, 4;\n  add.s64 %rd1, %rd1, 2;\n  ld.global.u32 %r1, [%rd1];");
    using tracer = new Tracer(device, { thread: [1, 0, 0] });
    // Thread 0 fails first, so that thread 1 never begins; of thread 0 there is everything up to the load.
    expect(() => launch(device, { ptx, args: { p0: "ptr" } }, { grid: [1], block: 2 }, { p0: memory.ptr })).toThrow(
      /ld.global/,
    );
    expect(tracer.kernels[0]!.count).toBe(0);
    tracer.dispose();
    using other = new Tracer(device);
    expect(() => launch(device, { ptx, args: { p0: "ptr" } }, { grid: [1], block: 2 }, { p0: memory.ptr })).toThrow(
      /ld.global/,
    );
    const last = other.kernels[0]!.steps.at(-1)!;
    expect(last).toMatchObject({ results: [], operands: [{ register: "%rd1", bits: 2n }] });
    expect(last.instruction.text).toBe("ld.global.u32");
  });

  test("agrees with the profiler: what all threads execute, line by line", () => {
    // Nested loops with other turns in each lane, a predicate, a shuffle and a barrier inside the outer one.
    const ptx = kernelText(`
  and.b32 %r1, %r0, 3;
  mov.u32 %r2, 0;
OUTER:
  mov.u32 %r3, 0;
INNER:
  add.u32 %r3, %r3, 1;
  xor.b32 %r4, %r1, %r2;
  setp.lt.u32 %p1, %r3, %r4;
  @%p1 bra INNER;
  setp.eq.u32 %p2, %r4, 2;
  @%p2 mul.lo.u32 %r5, %r3, 3;
  shfl.sync.bfly.b32 %r6, %r3, 1, 31, -1;
  @!%p2 bra SKIP;
  add.u32 %r5, %r5, %r6;
SKIP:
  bar.sync 0;
  add.u32 %r2, %r2, 1;
  setp.lt.u32 %p3, %r2, 3;
  @%p3 bra OUTER;`);
    const run = () => launch(device, { ptx, args: { p0: "ptr" } }, { grid: [1], block: 48 }, { p0: memory.ptr });
    const traced = new Map<number, { executed: number; reached: number }>();
    for (let thread = 0; thread < 48; thread++) {
      using tracer = new Tracer(device, { thread: [thread, 0, 0] });
      run();
      for (const { instruction, executed } of tracer.kernels[0]!.steps) {
        const line = traced.get(instruction.line) ?? { executed: 0, reached: 0 };
        traced.set(instruction.line, { executed: line.executed + Number(executed), reached: line.reached + 1 });
      }
    }
    using profiler = new Profiler(device);
    run();
    const { instructions } = profiler.kernels[0]!;
    expect(instructions.map(({ ptxLine }) => ptxLine)).toEqual([...traced.keys()].sort((a, b) => a - b));
    for (const { ptxLine, counts } of instructions) {
      const { executed, reached } = traced.get(ptxLine)!;
      expect({ ptxLine, lanes: counts.laneInstructions, active: counts.activeLanes }).toEqual({
        ptxLine,
        lanes: executed,
        active: reached,
      });
    }
    // Turns of the inner loop: in each of three outer ones as many as the lane with the largest xor takes, in both warps.
    const inner = instructions.find(({ text }) => text.startsWith("add.u32 %r3"))!;
    expect(inner.counts.warpInstructions).toBe(2 * (3 + 3 + 3));
  });

  test("refuses what makes no sense", () => {
    expect(() => new Tracer(device, { limit: -1 })).toThrow(ArgumentError);
    expect(() => new Tracer(device, { skip: 0.5 })).toThrow(/skip/);
    using _first = new Tracer(device);
    expect(() => new Profiler(device)).toThrow(StateError);
  });
});
