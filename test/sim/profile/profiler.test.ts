import { readFileSync } from "node:fs";
import { afterAll, describe, expect, test } from "vitest";
import { ArgumentError, StateError } from "../../../src/base/errors.ts";
import type { DevicePtr } from "../../../src/driver/api.ts";
import type { Device } from "../../../src/driver/device.ts";
import { cost } from "../../../src/sim/profile/counts.ts";
import { bySourceLine, type InstructionProfile, type KernelProfile } from "../../../src/sim/profile/kernel-profile.ts";
import { Profiler } from "../../../src/sim/profile/profiler.ts";
import { Tensor } from "../../../src/tensor/tensor.ts";
import { kernelText, launch, openSim } from "../support.ts";

const device = openSim();
const memory = device.allocate(1 << 20);
afterAll(() => memory.dispose());

/** Profiles one launch of `body` by `threads` threads a block; the parameter is a megabyte of memory. */
function profile(body: string, threads = 32, options: { blocks?: number; declarations?: string } = {}): KernelProfile {
  using profiler = new Profiler(device);
  const ptx = kernelText(body, 1, options.declarations);
  launch(device, { ptx, args: { p0: "ptr" } }, { grid: [options.blocks ?? 1], block: threads }, { p0: memory.ptr });
  expect(profiler.kernels).toHaveLength(1);
  return profiler.kernels[0]!;
}

function line({ instructions }: KernelProfile, text: string): InstructionProfile["counts"] {
  const found = instructions.filter((instruction) => instruction.text.startsWith(text));
  expect(found, text).toHaveLength(1);
  return found[0]!.counts;
}

/** An address in %rd3 that is %r0 times `stride`. */
const strided = (stride: number) => `
  mul.wide.u32 %rd2, %r0, ${stride};
  add.s64 %rd3, %rd0, %rd2;`;

describe("instructions", () => {
  test("warps and lanes, and half a warp at the end of a block", () => {
    const result = profile("  add.u32 %r1, %r0, 1;", 48, { blocks: 3 });
    expect(line(result, "add")).toMatchObject({ warpInstructions: 6, activeLanes: 144, laneInstructions: 144 });
    expect(result).toMatchObject({ kernel: "test", module: "test", launches: 1, blocks: 3, warps: 6 });
    const { instructions, totals } = result;
    expect(instructions.map(({ text }) => text)).toEqual([
      "ld.param.u64 %rd0, [p0]",
      "mov.u32 %r0, %tid.x",
      "add.u32 %r1, %r0, 1",
      "ret",
    ]);
    expect(totals.warpInstructions).toBe(24);
  });

  test("a predicate takes lanes from the instruction, not from the warp", () => {
    const result = profile("  setp.lt.u32 %p1, %r0, 5;\n  @%p1 add.u32 %r1, %r0, 1;\n  @!%p1 sub.u32 %r1, %r0, 1;");
    expect(line(result, "@%p1 add")).toMatchObject({ warpInstructions: 1, activeLanes: 32, laneInstructions: 5 });
    expect(line(result, "@!%p1 sub")).toMatchObject({ warpInstructions: 1, activeLanes: 32, laneInstructions: 27 });
  });

  test("a branch divides the warp until the ways join", () => {
    const result = profile(`
  setp.lt.u32 %p1, %r0, 8;
  @%p1 bra LOW;
  add.u32 %r1, %r0, 1;
  bra.uni JOIN;
LOW:
  sub.u32 %r1, %r0, 1;
JOIN:
  mul.lo.u32 %r2, %r1, 3;`);
    expect(line(result, "@%p1 bra")).toMatchObject({ warpInstructions: 1, laneInstructions: 32 });
    expect(line(result, "add")).toMatchObject({ warpInstructions: 1, activeLanes: 24 });
    expect(line(result, "sub")).toMatchObject({ warpInstructions: 1, activeLanes: 8 });
    expect(line(result, "mul")).toMatchObject({ warpInstructions: 1, activeLanes: 32 });
  });

  test("a loop takes as many turns as the lane that takes most", () => {
    const result = profile(`
  mov.u32 %r1, 0;
LOOP:
  add.u32 %r1, %r1, 1;
  setp.le.u32 %p1, %r1, %r0;
  @%p1 bra LOOP;
  mul.lo.u32 %r2, %r1, 3;`);
    expect(line(result, "add")).toMatchObject({ warpInstructions: 32, activeLanes: (32 * 33) / 2 });
    expect(line(result, "mul")).toMatchObject({ warpInstructions: 1, activeLanes: 32 });
  });

  test("shuffles, votes and barriers, also one right behind another", () => {
    const result = profile(
      `
  shfl.sync.bfly.b32 %r1|%p1, %r0, 1, 31, -1;
  vote.sync.ballot.b32 %r2, %p1, -1;
  bar.sync 0;
  bar.sync 0;
  and.b32 %r4, %r0, 31;
  setp.lt.u32 %p2, %r4, 16;
  @%p2 bra END;
  shfl.sync.bfly.b32 %r3, %r1, 1, 31, 0xffff0000;
END:`,
      64,
    );
    const warps = { warpInstructions: 2, activeLanes: 64, laneInstructions: 64 };
    expect(line(result, "shfl.sync.bfly.b32 %r1")).toMatchObject(warps);
    expect(line(result, "vote")).toMatchObject(warps);
    const barriers = result.instructions.filter(({ text }) => text === "bar.sync 0");
    expect(barriers.map(({ counts }) => counts.warpInstructions)).toEqual([2, 2]);
    expect(line(result, "shfl.sync.bfly.b32 %r3")).toMatchObject({ warpInstructions: 2, activeLanes: 32 });
  });
});

describe("memory", () => {
  test("coalescing of reads and writes", () => {
    const neighbours = profile(`${strided(4)}\n  ld.global.f32 %f1, [%rd3];\n  st.global.f32 [%rd3+4096], %f1;`, 64);
    expect(line(neighbours, "ld.global")).toMatchObject({ readBytes: 256, readSectors: 8, idealSectors: 8 });
    expect(line(neighbours, "st.global")).toMatchObject({ writtenBytes: 256, writtenSectors: 8, idealSectors: 8 });
    const far = profile(`${strided(128)}\n  ld.global.v2.f32 {%f1, %f2}, [%rd3+8];`);
    expect(line(far, "ld.global")).toMatchObject({ readBytes: 256, readSectors: 32, idealSectors: 8 });
    expect(far.totals).toMatchObject({ readSectors: 32, idealSectors: 8, writtenSectors: 0 });
  });

  test("each turn of a loop is an access of its own", () => {
    const result = profile(`${strided(4)}
  mov.u32 %r1, 0;
LOOP:
  ld.global.f32 %f1, [%rd3];
  add.s64 %rd3, %rd3, 128;
  add.u32 %r1, %r1, 1;
  setp.lt.u32 %p1, %r1, 10;
  @%p1 bra LOOP;`);
    expect(line(result, "ld.global")).toMatchObject({ warpInstructions: 10, readSectors: 40, idealSectors: 40 });
  });

  test("bank conflicts", () => {
    const tile = { declarations: ".shared .align 16 .b8 tile[8192];" };
    const access = (stride: number, text: string) =>
      profile(`  mov.u32 %r2, tile;\n  mad.lo.u32 %r1, %r0, ${stride}, %r2;\n${text}`, 32, tile);
    const stores = access(128, "  st.shared.u32 [%r1], %r0;");
    expect(line(stores, "st.shared")).toMatchObject({ sharedBytes: 128, sharedPasses: 32, idealPasses: 1 });
    const wide = access(16, "  ld.shared.v4.u32 {%r4, %r5, %r6, %r7}, [%r1];");
    expect(line(wide, "ld.shared")).toMatchObject({ sharedBytes: 512, sharedPasses: 4, idealPasses: 4 });
    const generic = access(8, "  cvt.u64.u32 %rd2, %r1;\n  cvta.shared.u64 %rd2, %rd2;\n  ld.u32 %r4, [%rd2];");
    expect(line(generic, "ld.u32")).toMatchObject({ sharedPasses: 2, idealPasses: 1, readBytes: 0 });
  });

  test("ldmatrix, and asynchronous copies as a read and a write", () => {
    const result = profile(
      `  mov.u32 %r2, tile;
  mad.lo.u32 %r1, %r0, 128, %r2;
  ${strided(16)}
  cp.async.cg.shared.global [%r1], [%rd3], 16;
  cp.async.commit_group;
  cp.async.wait_group 0;
  bar.sync 0;
  ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r4, %r5, %r6, %r7}, [%r1];`,
      32,
      { declarations: ".shared .align 16 .b8 tile[4096];" },
    );
    expect(line(result, "cp.async.cg")).toMatchObject({
      ...{ readBytes: 512, readSectors: 16, idealSectors: 16 },
      ...{ sharedBytes: 512, sharedPasses: 32, idealPasses: 4 },
    });
    expect(line(result, "ldmatrix")).toMatchObject({ sharedBytes: 512, sharedPasses: 32, idealPasses: 4 });
  });

  test("a tile that wmma loads", () => {
    const registers = "%r4, %r5, %r6, %r7, %r8, %r9, %r10, %r11";
    const result = profile(`  mov.u32 %r1, 32;
  wmma.load.a.sync.aligned.row.m16n16k16.global.f16 {${registers}}, [%rd0], %r1;`);
    // Sixteen rows of 32 bytes that lie 64 bytes apart.
    expect(line(result, "wmma")).toMatchObject({ readBytes: 512, readSectors: 16, idealSectors: 16 });
  });

  test("local memory, constants and parameters are not global memory", () => {
    const result = profile("  mov.u64 %rd2, own;\n  st.local.u32 [own+4], %r0;\n  ld.local.u32 %r1, [own+4];", 32, {
      declarations: ".local .align 8 .b8 own[16];",
    });
    expect(line(result, "st.local")).toMatchObject({ localBytes: 128 });
    expect(result.totals).toMatchObject({ localBytes: 256, readBytes: 0, writtenBytes: 0 });
  });

  test("atomics, and how many lanes share an address", () => {
    const result = profile(`
  shr.u32 %r1, %r0, 2;
  mul.wide.u32 %rd2, %r1, 4;
  add.s64 %rd3, %rd0, %rd2;
  red.global.add.u32 [%rd3], 1;
  atom.global.add.u32 %r2, [%rd0+4096], 1;`);
    expect(line(result, "red")).toMatchObject({ atomics: 32, atomicConflicts: 24, writtenSectors: 1 });
    expect(line(result, "atom")).toMatchObject({ atomics: 32, atomicConflicts: 31, writtenSectors: 1 });
  });
});

describe("three ways to transpose", () => {
  const ptx = readFileSync(new URL("../../../examples/kernels/transpose.ptx", import.meta.url), "utf8");
  const args = { out: "ptr", in: "ptr", rows: "i32", cols: "i32" } as const;
  const [rows, cols] = [96, 160];
  const elements = rows * cols;

  function transpose(symbol: string): KernelProfile {
    const values = Float32Array.from({ length: elements }, (_, i) => i);
    using x = Tensor.from(values, { device, dtype: "float32" });
    using y = Tensor.empty([elements], { device, dtype: "float32" });
    using profiler = new Profiler(device);
    const shape = { grid: [cols / 32, rows / 32], block: [32, 8] } as const;
    launch(device, { ptx, symbol, args }, shape, { out: y.ptr, in: x.ptr, rows, cols });
    const got = y.toArray();
    for (let i = 0; i < elements; i++) expect(got[i]).toBe(values[(i % rows) * cols + Math.floor(i / rows)]);
    return profiler.kernels.find(({ kernel }) => kernel === symbol)!;
  }

  test("the plain one writes a sector for every element", () => {
    const { totals } = transpose("transpose_naive");
    expect(totals).toMatchObject({ readBytes: 4 * elements, readSectors: elements / 8 });
    expect(totals).toMatchObject({ writtenBytes: 4 * elements, writtenSectors: elements });
    expect(totals.idealSectors).toBe(elements / 4);
    expect(totals.sharedPasses).toBe(0);
  });

  test("the tile without padding goes through its banks 32 times", () => {
    const result = transpose("transpose_tiled");
    const { totals } = result;
    expect(totals).toMatchObject({
      readSectors: elements / 8,
      writtenSectors: elements / 8,
      idealSectors: elements / 4,
    });
    expect(totals).toMatchObject({ sharedBytes: 8 * elements, idealPasses: elements / 16 });
    expect(totals.sharedPasses).toBe(elements / 32 + elements);
    const source = bySourceLine(result);
    const worst = source.reduce((a, b) => (cost(a.counts) > cost(b.counts) ? a : b));
    expect(worst.source).toEqual({ file: "transpose.cu", line: 32 });
    const sum = source.reduce((n, { counts }) => n + counts.warpInstructions, 0);
    expect(sum).toBe(totals.warpInstructions);
  });

  test("the padded one has no conflicts", () => {
    const { totals } = transpose("transpose_padded");
    expect(totals).toMatchObject({ sharedPasses: elements / 16, idealPasses: elements / 16 });
    expect(totals.idealSectors).toBe(totals.readSectors + totals.writtenSectors);
  });
});

describe("the profiler", () => {
  test("sees what tensors launch, adds up launches, and stops when it is disposed", () => {
    using x = Tensor.ones([1000], { device });
    const profiler = new Profiler(device);
    x.add(1).dispose();
    x.add(1).dispose();
    profiler.dispose();
    x.add(1).dispose();
    const [add, ...others] = profiler.kernels;
    expect(others).toEqual([]);
    expect(add!.launches).toBe(2);
    expect(add!.totals).toMatchObject({ readBytes: 8000, writtenBytes: 8000, readSectors: 250, writtenSectors: 250 });
  });

  test("results are those without it, for a product on every path of the matrix unit", () => {
    for (const dtype of ["float32", "float16", "bfloat16"] as const) {
      using a = Tensor.randn([40, 96], { device, dtype, seed: 1 });
      using b = Tensor.randn([96, 72], { device, dtype, seed: 2 });
      using plain = a.matmul(b);
      using profiler = new Profiler(device);
      using watched = a.matmul(b);
      expect([...watched.to("float32").toArray()]).toEqual([...plain.to("float32").toArray()]);
      expect(profiler.kernels[0]!.totals.readBytes).toBeGreaterThan(0);
    }
  });

  test("sees graphs that were captured before", () => {
    using x = Tensor.ones([64], { device });
    using pool = device.createMemoryPool();
    x.add_(1);
    using graph = device.useMemory(pool, () => device.stream.capture(() => x.add_(1)));
    using executable = graph.instantiate();
    using profiler = new Profiler(device);
    executable.launch(device.stream);
    expect(profiler.kernels.map(({ launches }) => launches)).toEqual([1]);
  });

  test("a launch that fails leaves what was counted, and the device usable", () => {
    const ptx = kernelText("  add.s64 %rd1, %rd0, 4096;\n  trap;");
    using profiler = new Profiler(device);
    const run = () => launch(device, { ptx, args: { p0: "ptr" } }, { grid: [1], block: 32 }, { p0: 0n as DevicePtr });
    expect(run).toThrow(/trapped/);
    expect(profiler.kernels[0]!.launches).toBe(1);
    using x = Tensor.ones([10], { device });
    expect(x.sum().item()).toBe(10);
  });

  test("one at a time, and on the software device only", () => {
    using _first = new Profiler(device);
    expect(() => new Profiler(device)).toThrow(StateError);
    expect(() => new Profiler({ name: "cuda:0", api: {} } as Device)).toThrow(ArgumentError);
  });
});
