/**
 * Runs every GPU test for every PTX target that this GPU can run, and writes a report.
 *
 *   npm run test:gpu                       on Node (vitest)
 *   bun scripts/test-gpu.ts                on Bun (bun test); production dependencies are enough
 *     --targets sm_60,sm_80,best           `best`: no target forced, which allows sm_90a
 *     --engine koffi|ffi-rs                only this FFI engine; else koffi for all targets and ffi-rs for `best`
 *     --filter text                        only test files whose path contains it
 *     --jobs 4                             runs at the same time (default 1): references are computed on the CPU
 *     --out folder                         where the report goes (default docs/reports)
 *     --json                               all results in a JSON file too, with every test by name
 *
 * Exit code 1 when a test fails, 2 without a usable GPU. See docs/kernels/build.md.
 */
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { runnableTargets } from "../src/kernels/target.ts";
import { buildKTypeFixture } from "../test/support/k-type-fixture.ts";
import { describeMachine } from "./test-gpu/machine.ts";
import { count, toMarkdown } from "./test-gpu/report.ts";
import { type Run, type RunResult, runName, runTests } from "./test-gpu/run.ts";

const root = fileURLToPath(new URL("../", import.meta.url));
const allTargets = ["sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "best"];

function testFiles(filter: string): string[] {
  return readdirSync(join(root, "test"), { recursive: true, encoding: "utf8" })
    .map((path) => `test/${path.replaceAll("\\", "/")}`)
    .filter((path) => path.endsWith(".gpu.test.ts") && path.includes(filter))
    .sort();
}

function plan(targets: readonly string[], engine: string | undefined): Run[] {
  const forced = (target: string): string | undefined => (target === "best" ? undefined : target);
  const runs: Run[] = [];
  if (engine !== "ffi-rs") runs.push(...targets.map((t) => ({ engine: "koffi" as const, target: forced(t) })));
  if (engine === "ffi-rs") runs.push(...targets.map((t) => ({ engine: "ffi-rs" as const, target: forced(t) })));
  else if (engine === undefined && targets.includes("best")) runs.push({ engine: "ffi-rs", target: undefined });
  return runs;
}

/** Results in the order of `items`, `width` of them under way at a time. */
async function inParallel<T, R>(items: readonly T[], width: number, work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const worker = async () => {
    for (let i = next++; i < items.length; i = next++) results[i] = await work(items[i]!);
  };
  await Promise.all(Array.from({ length: width }, worker));
  return results;
}

function print(result: RunResult): void {
  const c = count(result);
  console.log(
    `${runName(result)}: ${c.passed} passed, ${c.failed} failed, ${c.skipped} skipped, ${result.seconds.toFixed(1)} s`,
  );
  for (const { file, failed } of result.files) {
    for (const { name, message } of failed) {
      console.log(`  FAILED ${file}: ${name}`);
      for (const line of message.split("\n").slice(0, 20)) console.log(`    ${line}`);
    }
  }
  if (result.crash) console.log(`  the run ended without results: ${result.crash}`);
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      targets: { type: "string" },
      engine: { type: "string" },
      filter: { type: "string", default: "" },
      jobs: { type: "string", default: "1" },
      out: { type: "string", default: join(root, "docs", "reports") },
      json: { type: "boolean", default: false },
    },
  });
  const targets = values.targets?.split(",") ?? allTargets;
  const unknown = targets.find((t) => !allTargets.includes(t) && t !== "sm_90a");
  if (unknown) throw new Error(`--targets: "${unknown}" is none of ${allTargets.join(", ")}`);
  if (values.engine !== undefined && !["koffi", "ffi-rs"].includes(values.engine)) {
    throw new Error(`--engine: "${values.engine}" is neither koffi nor ffi-rs`);
  }
  const files = testFiles(values.filter);
  if (files.length === 0) throw new Error(`no file test/**/*.gpu.test.ts contains "${values.filter}"`);

  const { machine, capability } = describeMachine();
  const runnable: readonly string[] = [...runnableTargets(capability), "best"];
  const leftOut = targets.filter((t) => !runnable.includes(t));
  console.log(`${machine.gpu}, ${machine.driver}, ${machine.runtime}: ${files.length} files`);
  await buildKTypeFixture();
  const jobs = Number(values.jobs);
  if (!Number.isInteger(jobs) || jobs < 1)
    throw new Error(`--jobs: "${values.jobs}" is not a whole number of at least 1`);
  const runs = await inParallel(
    plan(
      targets.filter((t) => runnable.includes(t)),
      values.engine,
    ),
    jobs,
    async (run) => {
      const result = await runTests(run, files, root);
      print(result);
      return result;
    },
  );

  const report = { machine, leftOut, runs };
  const slug = `${machine.gpu} ${machine.runtime}`.toLowerCase().replace(/[^a-z0-9.]+/g, "-");
  mkdirSync(values.out, { recursive: true });
  if (values.json) writeFileSync(join(values.out, `${slug}.json`), `${JSON.stringify(report, undefined, 1)}\n`);
  writeFileSync(join(values.out, `${slug}.md`), toMarkdown(report));
  console.log(`report: ${join(values.out, `${slug}.md`)}`);
  return runs.some((r) => count(r).failed > 0) ? 1 : 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 2;
}
