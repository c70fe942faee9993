import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { readNpy, writeNpy } from "../../src/formats/npy.ts";
import { command, llcuda } from "./run.ts";

const folder = mkdtempSync(join(tmpdir(), "llcuda-sim-run-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const inFolder = (name: string) => join(folder, name);

/** y[i] = a * x[i] + y[i] without a bound: as many threads as elements. */
const saxpy = inFolder("saxpy.ptx");
writeFileSync(
  saxpy,
  `.version 7.0
.target sm_60
.address_size 64
.visible .entry saxpy(.param .u64 y, .param .u64 x, .param .f32 a)
{
  .reg .b64 %rd<6>;
  .reg .b32 %r<4>;
  .reg .f32 %f<4>;
  ld.param.u64 %rd1, [y];
  ld.param.u64 %rd2, [x];
  ld.param.f32 %f1, [a];
  mov.u32 %r1, %ctaid.x;
  mov.u32 %r2, %ntid.x;
  mov.u32 %r3, %tid.x;
  mad.lo.u32 %r1, %r1, %r2, %r3;
  mul.wide.u32 %rd3, %r1, 4;
  add.s64 %rd1, %rd1, %rd3;
  add.s64 %rd2, %rd2, %rd3;
  ld.global.f32 %f2, [%rd2];
  ld.global.f32 %f3, [%rd1];
  fma.rn.f32 %f3, %f1, %f2, %f3;
  st.global.f32 [%rd1], %f3;
  ret;
}
`,
);

/** out[tid] = ±the sum of its parameters of every size, as 64 bits. */
const sizes = inFolder("sizes.ptx");
writeFileSync(
  sizes,
  `.version 7.0
.target sm_70
.address_size 64
.visible .entry first(.param .u8 a, .param .s16 b, .param .u32 c, .param .s64 d, .param .u64 out)
{
  .reg .b64 %rd<8>;
  .reg .b16 %rs<3>;
  .reg .b32 %r<3>;
  ld.param.u8 %rs1, [a];
  ld.param.s16 %rs2, [b];
  ld.param.u32 %r1, [c];
  ld.param.u64 %rd1, [d];
  ld.param.u64 %rd2, [out];
  cvt.u64.u16 %rd3, %rs1;
  cvt.s64.s16 %rd4, %rs2;
  cvt.u64.u32 %rd5, %r1;
  add.s64 %rd3, %rd3, %rd4;
  add.s64 %rd3, %rd3, %rd5;
  add.s64 %rd3, %rd3, %rd1;
  st.global.u64 [%rd2], %rd3;
  ret;
}
.visible .entry second()
{
  ret;
}
`,
);

const run = (...args: string[]) => llcuda(["sim", "run", ...args]);
const launch = (grid: string, block: string, ...args: string[]) =>
  run(saxpy, "--grid", grid, "--block", block, ...args.flatMap((arg) => ["--arg", arg]));

describe("llcuda sim run", () => {
  test("launches a kernel and prints its buffers", async () => {
    const { code, stdout, stderr } = await run(
      ...[saxpy, "-g", "2", "-b", "5", "-a", "y=f32:10:1", "-a", "x=f32:2x5:iota", "-a", "f32:0.5"],
      ...["--print", "y", "--print", "x:3"],
    );
    expect(stdout).toBe(
      [
        "y: f32 [10]",
        "  0:   1 1.5   2 2.5   3 3.5   4 4.5",
        "  8:   5 5.5",
        "x: f32 [2, 5]",
        "  0: 0 1 2",
        "  … 7 more",
        "",
      ].join("\n"),
    );
    expect(stderr).toMatch(/^saxpy on sim:sm_60: 2 blocks of 5 threads in [\d.]+ ms\n$/);
    expect(code).toBe(0);
  });

  test("prints JSON, whose numbers JSON can hold", async () => {
    const { stdout } = await run(
      ...[saxpy, "-g", "1", "-b", "4", "-a", "y=f32:4", "-a", "x=f32:4:Infinity", "-a", "f32:-1"],
      ...["--print", "y:2", "--json", "--target", "sm_89"],
    );
    const result = JSON.parse(stdout) as Record<string, unknown>;
    expect(result).toMatchObject({ kernel: "saxpy", device: "sim:sm_89", grid: [1, 1, 1], block: [4, 1, 1] });
    expect(result.buffers).toEqual([{ name: "y", type: "f32", shape: [4], values: ["-Infinity", "-Infinity"] }]);
  });

  test("arguments of every size, at their places", async () => {
    const args = ["u8:200", "s16:-3", "b32:0xffffffff", "i64:-9007199254740993", "out=i64:1"].flatMap((a) => ["-a", a]);
    const { stdout, code } = await run(sizes, "-e", "first", "-g", "1", "-b", "1", ...args, "-p", "out");
    expect(stdout).toContain(String(200n - 3n + 0xffffffffn - 9007199254740993n));
    expect(code).toBe(0);
    expect((await run(sizes, "--entry", "second", "-g", "1", "-b", "1")).code).toBe(0);
  });

  test("files in, files out: .npy and raw bytes", async () => {
    const x = Float32Array.of(1, 2, 3, 4);
    writeNpy(inFolder("x.npy"), { descr: "<f4", shape: [2, 2], data: new Uint8Array(x.buffer) });
    writeFileSync(inFolder("y.bin"), new Uint8Array(Float32Array.of(10, 20, 30, 40).buffer));
    const { code } = await run(
      ...[saxpy, "-g", "1", "-b", "4", "-a", `y=f32@${inFolder("y.bin")}`, "-a", `x=@${inFolder("x.npy")}`],
      ...["-a", "f32:2", "--save", `y=${inFolder("out.bin")}`, "--save", `x=${inFolder("same.npy")}`],
    );
    expect(code).toBe(0);
    const out = readFileSync(inFolder("out.bin"));
    expect([...new Float32Array(out.buffer.slice(out.byteOffset, out.byteOffset + 16))]).toEqual([12, 24, 36, 48]);
    expect(readNpy(inFolder("same.npy"))).toEqual(readNpy(inFolder("x.npy")));
  });

  test("random contents are repeatable, and differ between seeds and buffers", async () => {
    const values = async (fill: string) => {
      const args = ["-a", `y=f32:8:${fill}`, "-a", "x=f32:8", "-a", "f32:0", "-p", "y", "--json"];
      const { stdout } = await run(saxpy, "-g", "1", "-b", "8", ...args);
      return (JSON.parse(stdout) as { buffers: { values: number[] }[] }).buffers[0]!.values;
    };
    const first = await values("random:7");
    expect(await values("random:7")).toEqual(first);
    expect(await values("random:8")).not.toEqual(first);
    expect(first.every((v) => v >= -1 && v < 1)).toBe(true);
    expect(new Set(first).size).toBe(8);
  });

  test("a buffer may be passed twice", async () => {
    const args = ["-a", "y=f32:4:iota", "-a", "y", "-a", "f32:1", "-p", "y"];
    expect((await run(saxpy, "-g", "1", "-b", "4", ...args)).stdout).toContain("0 2 4 6");
  });

  test("a kernel that leaves its memory: the line, and where the buffers are; exit code 1", async () => {
    const wild = await launch("65535", "1024", "y=f32:8", "x=f32:8", "f32:1");
    expect(wild.stderr).toMatch(/^llcuda: CUDA_ERROR_ILLEGAL_ADDRESS: saxpy block .*PTX line 19 .*y is at 0x/);
    expect(wild.stderr.trim().split("\n")).toHaveLength(1);
    expect(wild.code).toBe(1);
  });
});

test("Ctrl-C ends a kernel that never does", async () => {
  const endless = inFolder("endless.ptx");
  const text = ".version 7.0 .target sm_60 .address_size 64 .visible .entry endless() { LOOP: bra LOOP; }";
  writeFileSync(endless, text);
  const { file, args, env } = command(["sim", "run", endless, "-g", "64", "-b", "256"]);
  const child = spawn(file, args, { env, stdio: "ignore" });
  const ended = new Promise((resolve) => child.on("close", (_, signal) => resolve(signal)));
  await new Promise((resolve) => setTimeout(resolve, 3000));
  expect(child.exitCode).toBe(null);
  child.kill("SIGINT");
  expect(await ended).toBe("SIGINT");
});

describe("what cannot be run is one sentence, exit code 2", () => {
  const good = ["y=f32:8", "x=f32:8", "f32:1"];
  const refusals: [string, () => Promise<{ code: unknown; stdout: string; stderr: string }>, string[]][] = [
    ["no file", () => run(inFolder("none.ptx"), "-g", "1", "-b", "1"), ["none.ptx", "no such file"]],
    ["no grid", () => run(saxpy, "-b", "1"), ["--grid", "sim run --help"]],
    ["a grid of nothing", () => launch("0", "8", ...good), ["--grid", "64, 8x8 or 4x4x2"]],
    ["a block too large", () => launch("1", "2048", ...good), ["saxpy", "2048", "1024"]],
    ["too few arguments", () => launch("1", "8", "y=f32:8"), ["takes 3 arguments, got 1", "x (8 bytes)"]],
    ["a scalar of another size", () => launch("1", "8", "y=f32:8", "x=f32:8", "f64:1"), ["argument 3", "4 bytes", "8"]],
    ["a number for an address", () => launch("1", "8", "u32:0", "x=f32:8", "f32:1"), ["argument 1", "y has 8 bytes"]],
    ["an unknown type", () => launch("1", "8", "y=f8:8", "x=f32:8", "f32:1"), ['"f8"', "bf16"]],
    ["an unknown content", () => launch("1", "8", "y=f32:8:noise", "x=f32:8", "f32:1"), ['"noise"', "iota"]],
    ["a number that is none", () => launch("1", "8", "y=f32:8", "x=f32:8", "f32:one"), ['"one" is not a number']],
    ["a number out of range", () => launch("1", "8", "u8:256", "x=f32:8", "f32:1"), ["u8 holds 0 to 255"]],
    ["a fraction as an integer", () => launch("1", "8", "y=i32:8:0.5", "x=f32:8", "f32:1"), ["whole number"]],
    ["a size that is none", () => launch("1", "8", "y=f32:many", "x=f32:8", "f32:1"), ['"many" is no size']],
    ["a huge buffer", () => launch("1", "8", "y=f32:9999999999", "x=f32:8", "f32:1"), ["4 GiB"]],
    ["a name before its buffer", () => launch("1", "8", "x", "x=f32:8", "f32:1"), ['no buffer "x" before it']],
    ["a name twice", () => launch("1", "8", "x=f32:8", "x=f32:8", "f32:1"), ['"x" already']],
    ["no argument at all", () => launch("1", "8", ":", "x=f32:8", "f32:1"), ["TYPE:VALUE"]],
    ["a missing file", () => launch("1", "8", "y=@none.npy", "x=f32:8", "f32:1"), ["none.npy", "no such file"]],
    [
      "another buffer",
      () => run(saxpy, "-g", "1", "-b", "8", ...good.flatMap((a) => ["-a", a]), "-p", "z"),
      ['"z"', "y, x"],
    ],
    [
      "a save without file",
      () => run(saxpy, "-g", "1", "-b", "8", ...good.flatMap((a) => ["-a", a]), "--save", "y"),
      ["out=out.npy"],
    ],
    ["several kernels", () => run(sizes, "-g", "1", "-b", "1"), ["--entry", "first, second"]],
    ["a kernel that is not there", () => run(sizes, "-e", "third", "-g", "1", "-b", "1"), ["third", "first, second"]],
    [
      "a target that is too old",
      () => run(sizes, "-e", "second", "-g", "1", "-b", "1", "--target", "sm_60"),
      ["sm_70"],
    ],
    ["a target that is none", () => run(sizes, "-e", "second", "-g", "1", "-b", "1", "--target", "sm_90"), ["sm_89"]],
    ["text that is no PTX", () => run(import.meta.filename, "-g", "1", "-b", "1"), ["PTX line 1"]],
  ];
  test.each(refusals)("%s", async (_, action, words) => {
    const { code, stdout, stderr } = await action();
    expect(stderr).toMatch(/^llcuda: [^\n]+\n$/);
    for (const word of words) expect(stderr).toContain(word);
    expect(stdout).toBe("");
    expect(code).toBe(2);
  });
});
