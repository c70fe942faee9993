import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { llcuda } from "./run.ts";

let scratch = "";
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "llcuda-quantize-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

test("quantize writes a file that the other commands read, and replaces one only when told to", async () => {
  const path = join(scratch, "demo.gguf");
  const write = (...more: string[]) => llcuda(["quantize", "demo", path, "--to", ...more]);
  expect(await write("Q8_0")).toEqual({ code: 0, stdout: `${path}: 2.8 MB\n`, stderr: "" });
  const inspected = JSON.parse((await llcuda(["inspect", path, "--json"])).stdout);
  expect(inspected.types.map((one: { type: string }) => one.type)).toEqual(["Q8_0", "float32"]);
  expect((await llcuda(["tokenize", path, "hi", "--ids"])).stdout).toBe("1019 407\n");
  const again = await write("f16");
  expect(again).toMatchObject({ code: 2, stdout: "" });
  expect(again.stderr).toMatch(/the file exists; --force replaces it/);
  expect(await write("f16", "--force")).toMatchObject({ code: 0, stdout: `${path}: 5.3 MB\n` });
});

test("what cannot be written is one sentence", async () => {
  const quantized = fileURLToPath(new URL("../fixtures/demo-chat.Q4_K_M.gguf", import.meta.url));
  for (const [args, words] of [
    [["demo", join(scratch, "a.gguf"), "--to", "q4_k"], /--to "q4_k" is not supported; use one of f32, f16, q4_0/],
    [["demo", join(scratch, "a.bin"), "--to", "f16"], /must be named .gguf/],
    [["demo", join(scratch, "a.gguf")], /required option '--to <type>'/],
    [[quantized, join(scratch, "a.gguf"), "--to", "f16"], /is of type Q6_K, so it cannot be written as GGUF/],
    [["demo", join(scratch, "no/such/folder.gguf"), "--to", "f16"], /writing failed \(ENOENT\)/],
  ] as const) {
    const { code, stdout, stderr } = await llcuda(["quantize", ...args]);
    expect(stderr).toMatch(/^llcuda: [^\n]+\n$/);
    expect(stderr).toMatch(words);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  }
});
