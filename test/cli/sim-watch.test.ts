import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { llcuda } from "./run.ts";

const folder = mkdtempSync(join(tmpdir(), "llcuda-sim-watch-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const ptx = fileURLToPath(new URL("../../examples/kernels/transpose.ptx", import.meta.url));
const args = ["-a", "out=f32:64x64", "-a", "in=f32:64x64:iota", "-a", "i32:64", "-a", "i32:64"];
const transpose = (kernel: string, ...more: string[]) =>
  llcuda(["sim", "run", ptx, "-e", `transpose_${kernel}`, "-g", "2x2", "-b", "32x8", ...args, ...more]);

/** The lines of a table, from its heading on. */
function table(stdout: string, heading: string): string[] {
  const lines = stdout.split("\n");
  const begin = lines.findIndex((line) => line.trimEnd().endsWith(heading));
  expect(begin, heading).toBeGreaterThan(0);
  return lines.slice(begin + 1, lines.indexOf("", begin));
}

describe("--profile", () => {
  test("totals, then the lines that cost most, with the source's text", async () => {
    const { stdout, code } = await transpose("naive", "--profile", "--top", "3");
    expect(stdout).toContain("transpose_naive: 4 blocks, 32 warps\n");
    expect(stdout).toContain("global memory read    16.4 KB asked for, 512 sectors (16.4 KB)\n");
    expect(stdout).toContain("global memory written 16.4 KB asked for, 4,096 sectors (131 KB)\n");
    expect(stdout).toContain("coalescing            22 %: 1,024 of 4,608 sectors would do\n");
    expect(stdout).not.toContain("shared memory");
    const [worst, ...source] = table(stdout, "source line");
    expect(worst).toMatch(/^ *98 % .* 4,608 +1,024 +transpose\.cu:13 {2}if \(r < rows && c < cols\) out\[/);
    expect(source).toHaveLength(3);
    expect(source.at(-1)).toMatch(/^… \d+ more lines; --top 0 shows all$/);
    expect(table(stdout, "PTX line")[0]).toMatch(/ 32 +32\.0 +1,024 +128 +\d+ {2}st\.global\.f32 \[%rd2], %f1$/);
    expect(code).toBe(0);
  });

  test("sorted by what is asked for, and all of it", async () => {
    const { stdout } = await transpose("tiled", "--profile", "--top", "0", "--sort", "conflicts");
    expect(stdout).toContain("4,224 passes, 3,968 of them for bank conflicts");
    const lines = table(stdout, "PTX line");
    expect(lines[0]).toContain("ld.shared.f32");
    expect(lines.length).toBeGreaterThan(100);
    const byLine = table((await transpose("tiled", "--profile", "--top", "0", "--sort", "line")).stdout, "PTX line");
    const numbers = byLine.map((line) => Number(/(\d+) {2}@?!?[%\w]*[. ]/.exec(line)?.[1]));
    expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
  });

  test("as JSON", async () => {
    const { stdout } = await transpose("padded", "--profile", "--json");
    const { profile, trace } = JSON.parse(stdout) as {
      profile: {
        cost: number;
        totals: Record<string, number>;
        instructions: { cost: number }[];
        sourceLines: unknown[];
      };
      trace?: unknown;
    };
    expect(trace).toBe(undefined);
    expect(profile.totals).toMatchObject({
      readSectors: 512,
      writtenSectors: 512,
      sharedPasses: 256,
      idealPasses: 256,
    });
    expect(profile.instructions.reduce((sum, { cost }) => sum + cost, 0)).toBe(profile.cost);
    expect(profile.sourceLines).toContainEqual(
      expect.objectContaining({ source: { file: "transpose.cu", line: 32 }, counts: expect.anything() }),
    );
  });
});

describe("--trace", () => {
  test("lines of the source, instructions, values and addresses", async () => {
    const { stdout, code } = await transpose("tiled", "--trace", "5,2", "--trace-block", "1", "--print", "out:4");
    const lines = stdout.split("\n");
    expect(lines[0]).toBe("transpose_tiled, block (1,0,0) thread (5,2,0): 102 instructions");
    expect(stdout).toContain("\ntranspose.cu:27  __syncthreads();\n");
    expect(stdout).toMatch(/\n {3}\d+ {2}mov\.u32 %r\d+, %ctaid\.x +→ %r\d+ = 1\n/);
    expect(stdout).toMatch(/ld\.global\.f32 %f1, \[%rd6] .* → %f1 = 165 \[reads 4 bytes at 0x7[0-9a-f]+]\n/);
    expect(stdout).toMatch(/st\.shared\.f32 \[%r7], %f1 .*\[writes 4 bytes at shared 276]\n/);
    expect(stdout).toMatch(/@%p3 bra \$L__BB1_2 +%p3 = false \(not taken\)\n/);
    expect(stdout).toContain("out: f32 [64, 64]\n  0:   0  64 128 192\n");
    expect(code).toBe(0);
  });

  test("a page of it, as text and as JSON", async () => {
    const page = ["--trace", "0", "--trace-skip", "10", "--trace-limit", "2"];
    const { stdout } = await transpose("tiled", ...page);
    expect(stdout).toContain("… 10 before\n");
    expect(stdout).toContain("… 90 more; --trace-limit and --trace-skip show them\n");
    const { trace } = JSON.parse((await transpose("tiled", ...page, "--json")).stdout) as {
      trace: { count: number; steps: { text: string; operands: { value: string }[]; results: unknown[] }[] };
    };
    expect(trace.count).toBe(102);
    expect(trace.steps).toHaveLength(2);
    expect(trace.steps[0]).toMatchObject({ ptxLine: 139, executed: true, source: { file: "transpose.cu", line: 24 } });
  });

  test("of a kernel that fails: what came before, then the fault; exit code 1", async () => {
    const wild = join(folder, "wild.ptx");
    writeFileSync(
      wild,
      `.version 7.0
.target sm_80
.address_size 64
.visible .entry wild(.param .u64 p)
{
  .reg .b64 %rd<3>;
  .reg .f32 %f<2>;
  ld.param.u64 %rd1, [p];
  add.s64 %rd2, %rd1, 2;
  ld.global.f32 %f1, [%rd2];
  ret;
}
`,
    );
    const run = ["sim", "run", wild, "-g", "1", "-b", "1", "-a", "p=f32:4"];
    const { stdout, stderr, code } = await llcuda([...run, "--trace", "0"]);
    expect(stdout).toContain("wild, block (0,0,0) thread (0,0,0): 3 instructions");
    expect(stdout).toMatch(/10 {2}ld\.global\.f32 %f1, \[%rd2] +%rd2 = 0x7[0-9a-f]+\n$/);
    expect(stderr).toMatch(/^llcuda: CUDA_ERROR_MISALIGNED_ADDRESS: wild .*p is at 0x7[0-9a-f]+\)\n$/);
    expect(code).toBe(1);
    const json = JSON.parse((await llcuda([...run, "--json"])).stdout) as Record<string, unknown>;
    expect(json.error).toContain("MISALIGNED");
  });
});

describe("--check", () => {
  const short = (...more: string[]) => {
    const lacking = ["-a", "out=f32:64x64", "-a", "in=f32:4095", "-a", "i32:64", "-a", "i32:64"];
    return llcuda(["sim", "run", ptx, "-e", "transpose_naive", "-g", "2x2", "-b", "32x8", ...lacking, ...more]);
  };

  test("finds a read of one element too many, which is not noticed otherwise", async () => {
    expect((await short()).code).toBe(0);
    const { stderr, code } = await short("--check");
    expect(stderr).toMatch(/^llcuda: CUDA_ERROR_ILLEGAL_ADDRESS: out of bounds: transpose_naive .*transpose\.cu:13/);
    expect(stderr).toContain("(in)");
    expect(code).toBe(1);
    expect((await transpose("tiled", "--check")).code).toBe(0);
  });

  test("finds a read of memory that was left unset", async () => {
    const unset = ["-a", "out=f32:64x64", "-a", "in=f32:64x64:unset", "-a", "i32:64", "-a", "i32:64"];
    const run = ["sim", "run", ptx, "-e", "transpose_naive", "-g", "2x2", "-b", "32x8", ...unset];
    expect((await llcuda(run)).code).toBe(0);
    const { stderr, code } = await llcuda([...run, "--check"]);
    expect(stderr).toContain("never-written memory");
    expect(code).toBe(1);
  });
});

test("what cannot be watched is one sentence, exit code 2", async () => {
  const refusals: [string[], RegExp][] = [
    [["--profile", "--trace", "0"], /--profile and --trace .* once with each/],
    [["--check", "--profile"], /--check and --profile/],
    [["--trace", "32"], /--trace 32,0,0: there is no such thread; the sizes are 32x8x1/],
    [["--trace", "0", "--trace-block", "0,2"], /--trace-block 0,2,0: there is no such block; the sizes are 2x2x1/],
    [["--trace", "first"], /--trace.*5 or 5,2,0/],
    [["--profile", "--sort", "colour"], /--sort.*cost/],
    [["--profile", "--top", "few"], /--top.*whole number/],
  ];
  for (const [flags, words] of refusals) {
    const { code, stdout, stderr } = await transpose("naive", ...flags);
    expect(stderr).toMatch(/^llcuda: [^\n]+\n$/);
    expect(stderr).toMatch(words);
    expect(stdout).toBe("");
    expect(code).toBe(2);
  }
});
