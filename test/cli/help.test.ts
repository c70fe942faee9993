import { readFileSync } from "node:fs";
import type { Command } from "commander";
import { describe, expect, test } from "vitest";
import { createProgram } from "../../src/cli/program.ts";
import { llcuda, llcudaProcess } from "./run.ts";

const commands = [
  "chat",
  "generate",
  "demo",
  "quantize",
  "merge",
  "inspect",
  "tokenize",
  "verify",
  "perplexity",
  "sim",
  "devices",
  "doctor",
];

/** Every command with what follows "llcuda": `sim run`. */
function allCommands(of: Command = createProgram(), path = ""): [string, Command][] {
  return of.commands.flatMap((command): [string, Command][] => {
    const name = `${path}${command.name()}`;
    return [[name, command], ...allCommands(command, `${name} `)];
  });
}

describe("help", () => {
  test("is what llcuda alone prints, and llcuda help", async () => {
    const alone = await llcuda([]);
    expect(alone.code).toBe(0);
    expect(alone.stderr).toBe("");
    for (const name of commands) expect(alone.stdout).toMatch(new RegExp(`^  ${name} `, "m"));
    expect(alone.stdout).toContain("Exit codes");
    expect((await llcuda(["help"])).stdout).toBe(alone.stdout);
    expect((await llcuda(["--help"])).stdout).toBe(alone.stdout);
  });

  test("describes every command and every one of its options", () => {
    expect(createProgram().commands.map((c) => c.name())).toEqual(commands);
    for (const [, command] of allCommands()) {
      const text = command.helpInformation();
      expect(command.description().length).toBeGreaterThan(20);
      for (const option of command.options.filter((o) => !o.hidden)) {
        expect(text).toContain(option.long ?? option.flags);
        expect(option.description.length).toBeGreaterThan(10);
      }
      expect(text.split("\n").filter((line) => line.length > 110)).toEqual([]);
    }
  });

  test("is where docs/cli.md has it from: every command and option is in the manual", () => {
    const manual = readFileSync(new URL("../../docs/cli.md", import.meta.url), "utf8");
    for (const [name, command] of allCommands()) {
      expect(manual).toContain(`## llcuda ${name}`);
      for (const option of command.options.filter((o) => !o.hidden)) expect(manual).toContain(`\`${option.long}`);
    }
  });

  test("version is the package's", async () => {
    const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
      version: string;
    };
    expect(await llcuda(["--version"])).toEqual({ code: 0, stdout: `${version}\n`, stderr: "" });
  });
});

describe("what needs no GPU", () => {
  test("the command in a process of its own", () => {
    expect(llcudaProcess(["tokenize", "demo", "hi", "--ids"])).toEqual({ code: 0, stdout: "1019 407\n", stderr: "" });
    expect(llcudaProcess(["tokenize", "./nowhere", "hi"]).code).toBe(2);
  });

  test("tokenize", async () => {
    expect(await llcuda(["tokenize", "demo", "hi"])).toEqual({
      code: 0,
      stdout: '   1019  "<|begin_of_text|>"\n    407  "hi"\n2 tokens\n',
      stderr: "",
    });
    expect((await llcuda(["tokenize", "demo", "hi", "--ids", "--no-special"])).stdout).toBe("407\n");
    expect((await llcuda(["tokenize", "demo", "hi", "--chat"])).stdout).toContain("<|start_header_id|>");
  });

  test("doctor says that it cannot run here, and why", () => {
    const { code, stdout, stderr } = llcudaProcess(["doctor"]);
    expect(stdout).toContain("FFI engine   koffi");
    expect(stdout).toContain("tried /nowhere/libcuda.so.1");
    expect(stdout).toContain("sim          runs kernels for sm_80");
    expect(stdout).toContain("llcuda cannot run on a GPU here yet; without one it runs on the software device");
    expect(stderr).toBe("");
    expect(code).toBe(2);
    const json = JSON.parse(llcudaProcess(["doctor", "--json"]).stdout) as {
      usable: boolean;
      findings: { label: string }[];
    };
    expect(json.usable).toBe(false);
    expect(json.findings.map((f) => f.label)).toContain("FFI engine");
  });
});
