import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { npm } from "./npm.ts";
import { checkout } from "./stage.ts";

/** What a release may weigh, with the demonstration model in it. */
const largestBytes = 12e6;

/** A program that uses the package's types, compiled as a user's would be. */
const consumer = `import { AutoModelForCausalLM, type ChatMessage, type GenerateOptions, LlcudaError, Tensor, tidy } from "llcuda";

export async function ask(messages: ChatMessage[], options: GenerateOptions): Promise<string> {
  using model = await AutoModelForCausalLM.fromPretrained("demo", { dtype: "float16" });
  const { text } = await model.generate(messages, { ...options, temperature: 0 });
  for await (const chunk of model.stream("Once", { maxNewTokens: 8 })) process.stdout.write(chunk.text);
  return text;
}

export function sum(): number {
  return tidy(() => Tensor.ones([2, 3]).matmul(Tensor.ones([3, 4])).sum().item());
}

export const code = (error: unknown): string | undefined => (error instanceof LlcudaError ? error.code : undefined);
// @ts-expect-error: types are there, and they refuse what is wrong
export const wrong: GenerateOptions = { temperature: "warm" };
`;

/** Installs a tarball without network, cache and scripts into an empty folder, and uses it. Throws when something fails. */
export function checkTarball(tarball: string, folder: string): void {
  const { size } = statSync(tarball);
  if (size > largestBytes) throw new Error(`${tarball} has ${size} bytes, more than ${largestBytes}`);
  const app = join(folder, "app");
  mkdirSync(app, { recursive: true });
  writeFileSync(join(app, "package.json"), '{ "private": true, "type": "module" }\n');
  npm(app, [
    "install",
    "--offline",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--cache",
    join(folder, "empty-cache"),
    tarball,
  ]);
  const llcuda = join(app, "node_modules", "llcuda");
  expectOutput(app, [join(llcuda, "dist", "cli", "main.js"), "tokenize", "demo", "hi", "--ids"], "1019 407\n");
  expectOutput(app, ["--input-type=module", "-e", 'console.log((await import("llcuda")).Tensor.name)'], "Tensor\n");
  const engine =
    'import koffi from "./node_modules/llcuda/node_modules/koffi/index.js"; console.log(koffi.sizeof("int"))';
  if (existsSync(join(llcuda, "node_modules", "koffi"))) {
    expectOutput(app, ["--input-type=module", "-e", engine], "4\n");
  }
  expectTypes(app);
}

/** The native libraries that came along, by platform. */
export function nativesIn(app: string): string[] {
  const folder = join(app, "node_modules", "llcuda", "node_modules", "@koromix");
  return readdirSync(folder).sort();
}

function expectOutput(folder: string, args: readonly string[], expected: string): void {
  const { stdout, stderr } = spawnSync(process.execPath, args, { cwd: folder, encoding: "utf8" });
  if (stdout === expected) return;
  throw new Error(`${args.join(" ")} printed ${JSON.stringify(stdout)}, not ${JSON.stringify(expected)}: ${stderr}`);
}

function expectTypes(app: string): void {
  writeFileSync(join(app, "ask.ts"), consumer);
  const compilerOptions = {
    module: "NodeNext",
    target: "ES2022",
    lib: ["ES2022", "ESNext.Disposable"],
    strict: true,
    noEmit: true,
    types: ["node"],
    typeRoots: [join(checkout, "node_modules", "@types")],
  };
  writeFileSync(join(app, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["ask.ts"] }));
  execFileSync(process.execPath, [join(checkout, "node_modules", "typescript", "bin", "tsc"), "-p", app], {
    stdio: "inherit",
  });
}
