import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { command, llcuda, llcudaProcess } from "./run.ts";

const question = ["--chat", "--temperature", "0", "--prompt", "What is 41 + 17?"];

describe("a machine without a GPU", () => {
  test("runs on the software device, and says so on one line", () => {
    const { code, stdout, stderr } = llcudaProcess(["generate", "demo", ...question]);
    expect(stdout).toBe("41 + 17 = 58\n");
    expect(stderr).toMatch(/^llcuda: running on sim:sm_80, the software device, which is slow: [^\n]+\n$/);
    expect(stderr).toContain("no NVIDIA driver");
    expect(code).toBe(0);
  });

  test("says nothing when the software device was asked for", async () => {
    const ask = ["generate", "demo", ...question, "--max-new-tokens"];
    expect(await llcuda([...ask, "3", "--device", "sim"])).toEqual({ code: 0, stdout: "41 +\n", stderr: "" });
    expect(await llcuda([...ask, "1"], { LLCUDA_DEVICE: "sim:sm_60" })).toEqual({
      code: 0,
      stdout: "4\n",
      stderr: "",
    });
  });

  test("a warning is one line that begins as errors do", () => {
    const checkpoint = fileURLToPath(new URL("../fixtures/gemma3-text", import.meta.url));
    const { code, stderr } = llcudaProcess(["verify", checkpoint, "--device", "sim", "--dtype", "float16"]);
    expect(stderr).toMatch(/^llcuda: warning: .*gemma3_text models in real sizes pass 65504[^\n]*\n$/);
    expect(code).toBe(0);
  });

  test("lists the software devices", async () => {
    const { stdout, code } = await llcuda(["devices"]);
    expect(stdout.split("\n")).toHaveLength(7);
    expect(stdout).toContain("sim:sm_80\tsoftware device, sm_80, on the CPU; sim means this one\n");
    expect(code).toBe(0);
  });

  test("stops at Ctrl-C in the middle of an answer", async () => {
    const { file, args, env } = command(["generate", "demo", "--prompt", "Once upon a time", "--device", "sim"]);
    const child = spawn(file, args, { env, stdio: ["ignore", "pipe", "pipe"] });
    const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
    await new Promise((resolve) => child.stdout.once("data", resolve));
    child.kill("SIGINT");
    expect(await ended).toBe(130);
  });
});
