import { execFileSync } from "node:child_process";
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { NativeStub, noCompiler } from "../support/native.ts";
import { type CliResult, llcuda, llcudaProcess } from "./run.ts";

const demo = fileURLToPath(new URL("../../models/demo/", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "llcuda-cli-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A copy of the demonstration model in which `change` breaks something. */
function broken(name: string, change: (directory: string) => void): string {
  const directory = join(folder, name);
  mkdirSync(directory);
  cpSync(demo, directory, { recursive: true });
  change(directory);
  return directory;
}

function editJson(file: string, edit: (value: Record<string, unknown>) => void): void {
  const value = JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>;
  edit(value);
  writeFileSync(file, JSON.stringify(value));
}

/** One sentence on standard error, exit code 2, nothing on standard output, no stack. */
function expectSentence({ code, stdout, stderr }: CliResult, words: readonly string[]): void {
  expect(stderr).toMatch(/^llcuda: [^\n]+\n$/);
  for (const word of words) expect(stderr).toContain(word);
  expect(stdout).toBe("");
  expect(code).toBe(2);
}

async function expectRefusal(args: readonly string[], words: readonly string[]): Promise<void> {
  expectSentence(await llcuda(args), words);
}

const ask = (model: string, ...more: string[]) => ["generate", model, "--prompt", "hi", ...more];

describe("bad input is named before a device is asked for", () => {
  test("a truncated safetensors file, in its data and in its header", async () => {
    const cut = (bytes: number) => (directory: string) => {
      const file = join(directory, "model.safetensors");
      writeFileSync(file, readFileSync(file).subarray(0, bytes));
    };
    await expectRefusal(ask(broken("cut-data", cut(1_000_000))), [
      "model.safetensors",
      "truncated",
      "download it again",
    ]);
    await expectRefusal(ask(broken("cut-header", cut(100))), ["model.safetensors", "truncated"]);
    await expectRefusal(ask(broken("cut-all", cut(0))), ["model.safetensors", "truncated"]);
  });

  test.skipIf(process.platform === "win32")("a pipe, which nobody writes to", () => {
    const pipes = broken("pipes", (directory) => {
      for (const file of ["model.safetensors", "config.json"]) rmSync(join(directory, file));
      execFileSync("mkfifo", [join(directory, "config.json"), join(directory, "x.gguf")]);
      copyFileSync(join(demo, "model.safetensors"), join(directory, "model.safetensors"));
    });
    expectSentence(llcudaProcess(["inspect", pipes]), ["config.json", "not a regular one"]);
    expectSentence(llcudaProcess(["inspect", join(pipes, "x.gguf")]), ["x.gguf", "not a regular file"]);
  });

  test("no weights at all, or a missing shard", async () => {
    const missing = broken("no-weights", (directory) => rmSync(join(directory, "model.safetensors")));
    await expectRefusal(ask(missing), ["no-weights", "safetensors"]);
    const shard = broken("no-shard", (directory) => {
      rmSync(join(directory, "model.safetensors"));
      const index = { weight_map: { "model.norm.weight": "model-00001-of-00001.safetensors" } };
      writeFileSync(join(directory, "model.safetensors.index.json"), JSON.stringify(index));
    });
    await expectRefusal(ask(shard), ["model-00001-of-00001.safetensors", "download the missing shard"]);
  });

  test("an unknown architecture: the message lists the known ones", async () => {
    const other = broken("mamba", (directory) =>
      editJson(join(directory, "config.json"), (config) => {
        config.architectures = ["MambaForCausalLM"];
        config.model_type = "mamba";
      }),
    );
    await expectRefusal(ask(other), ["MambaForCausalLM", "not supported", "LlamaForCausalLM"]);
    await expectRefusal(["verify", other, "--expected", join(demo, "model.safetensors")], ["LlamaForCausalLM"]);
  });

  test("quantized weights, which this version does not read", async () => {
    const quantized = broken("quantized", (directory) =>
      editJson(join(directory, "config.json"), (config) => {
        config.quantization_config = { quant_method: "gptq", bits: 4 };
      }),
    );
    await expectRefusal(ask(quantized), ["quantized with GPTQ", "use a bitsandbytes 4-bit, GGUF or 16-bit version"]);
  });

  test("config.json missing, or not JSON", async () => {
    const missing = broken("no-config", (directory) => rmSync(join(directory, "config.json")));
    await expectRefusal(ask(missing), ["config.json"]);
    const garbage = broken("bad-config", (directory) => writeFileSync(join(directory, "config.json"), "{ nope"));
    await expectRefusal(ask(garbage), ["config.json", "JSON"]);
    const generation = broken("bad-generation", (directory) =>
      writeFileSync(join(directory, "generation_config.json"), '{"top_p": "much"}'),
    );
    await expectRefusal(ask(generation), ["generation_config.json", "top_p"]);
  });

  test("a missing tokenizer", async () => {
    const missing = broken("no-tokenizer", (directory) => rmSync(join(directory, "tokenizer.json")));
    for (const args of [ask(missing), ["chat", missing], ["tokenize", missing, "hi"]]) {
      await expectRefusal(args, ["there is no tokenizer.json", "download"]);
    }
  });

  test("a chat with a model that has no chat template", async () => {
    const base = broken("base", (directory) => rmSync(join(directory, "chat_template.jinja")));
    for (const args of [ask(base, "--chat"), ["chat", base]]) await expectRefusal(args, ["chat template"]);
  });

  test("a directory that does not exist, or is a file", async () => {
    for (const args of [
      ask("./nowhere"),
      ["chat", "./nowhere"],
      ["verify", "./nowhere"],
      ["tokenize", "./nowhere", "a"],
    ]) {
      await expectRefusal(args, ["./nowhere", "no such directory", "demo"]);
    }
    await expectRefusal(ask(join(demo, "config.json")), ["this is a file", "give the directory"]);
  });

  test("options out of range", async () => {
    await expectRefusal(ask("demo", "--temperature", "NaN"), ["--temperature", "must be a number"]);
    await expectRefusal(ask("demo", "--temperature", "warm"), ["--temperature", "must be a number"]);
    await expectRefusal(ask("demo", "--temperature", "-1"), ["temperature", "-1"]);
    await expectRefusal(ask("demo", "--temperature", "Infinity"), ["temperature", "Infinity"]);
    await expectRefusal(ask("demo", "--top-p", "1.5"), ["topP", "1.5"]);
    await expectRefusal(ask("demo", "--top-k", "2.5"), ["topK", "2.5"]);
    await expectRefusal(ask("demo", "--min-p", "2"), ["minP", "2"]);
    await expectRefusal(ask("demo", "--seed", "1.5"), ["--seed", "whole number"]);
    await expectRefusal(ask("demo", "--max-new-tokens", "0"), ["maxNewTokens", "0"]);
    await expectRefusal(ask("demo", "--stop", ""), ["stop", "empty"]);
  });

  test("a dtype that models do not compute in", async () => {
    for (const dtype of ["float8", "int32"]) {
      await expectRefusal(ask("demo", "--dtype", dtype), ["float32, float16 or bfloat16", dtype]);
    }
  });

  test("verify without a reference, or with one that is no safetensors file", async () => {
    await expectRefusal(["verify", "demo"], ["expected.safetensors", "no such file"]);
    const wrong = broken("bad-reference", (directory) =>
      copyFileSync(join(directory, "config.json"), join(directory, "expected.safetensors")),
    );
    await expectRefusal(["verify", wrong], ["expected.safetensors"]);
  });
});

describe("a command line that cannot be read", () => {
  test("unknown commands and options, with the likely one", async () => {
    await expectRefusal(["generat", "demo"], ["unknown command 'generat' (did you mean generate?)", "llcuda help"]);
    await expectRefusal(
      ["generate", "demo", "--tempratur", "1"],
      ["(did you mean --temperature?)", "llcuda help generate"],
    );
    await expectRefusal(["--nope"], ["unknown option '--nope'"]);
  });

  test("missing and superfluous arguments", async () => {
    await expectRefusal(["generate"], ["missing required argument 'model'", "llcuda help generate"]);
    await expectRefusal(["tokenize", "demo"], ["missing required argument 'text'"]);
    await expectRefusal(["generate", "demo", "more"], ["too many arguments", "expected 1"]);
    await expectRefusal(["generate", "demo", "--prompt"], ["--prompt", "missing"]);
  });
});

// Each in a process of its own: a driver that was opened stays open.
describe("devices that are not there", () => {
  test("no GPU, but asked for: one sentence that says what to install", async () => {
    for (const args of [ask("demo"), ["chat", "demo"], ["demo"]]) {
      const words = ["no NVIDIA driver", "install the NVIDIA driver", '"sim"'];
      await expectRefusal([...args, "--device", "cuda"], words);
    }
  });

  test("names that mean no device", async () => {
    await expectRefusal(ask("demo", "--device", "abacus"), ['unknown kind "abacus"', "cuda:0"]);
    await expectRefusal(ask("demo", "--device", "cuda:first"), ['"first" is not an index']);
    await expectRefusal(ask("demo", "--device", "sim:sm_50"), ['"sim:sm_60"', '"sim:sm_89"']);
    const env = { LLCUDA_DEVICE: "tpu" };
    expectSentence(llcudaProcess(ask("demo"), { env }), ['unknown kind "tpu"']);
  });

  test("an FFI engine that does not exist", () => {
    const env = { LLCUDA_FFI: "ctypes" };
    expectSentence(llcudaProcess(ask("demo"), { env }), ["LLCUDA_FFI", "koffi or ffi-rs"]);
  });

  describe(`with a driver in C${noCompiler === undefined ? "" : ` (skipped: ${noCompiler})`}`, () => {
    const testHere = test.skipIf(noCompiler !== undefined);
    let stub: NativeStub;
    let env: Record<string, string> = {};
    beforeAll(() => {
      if (noCompiler !== undefined) return;
      stub = new NativeStub();
      env = { LLCUDA_CUDA_LIBRARY: stub.build("driver/fake-libcuda.c", "libcuda.so.1") };
    });
    afterAll(() => stub?.remove());

    testHere("a GPU index that does not exist", () => {
      const result = llcudaProcess(ask("demo", "--device", "cuda:7"), { env });
      expectSentence(result, ["there are 2 GPUs", '"cuda:0" to "cuda:1"']);
    });

    testHere("devices lists what there is", () => {
      const { code, stdout, stderr } = llcudaProcess(["devices"], { env });
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      expect(stdout).toMatch(/^cuda:0\tFake GPU 0, sm_90, 141 GiB\ncuda:1\tFake GPU 1, sm_90, 141 GiB\nsim:sm_60\t/);
    });
  });
});
