import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { npm } from "./npm.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));

interface Manifest {
  readonly version: string;
  readonly files: readonly string[];
  readonly bundleDependencies: readonly string[];
}

function readManifest(folder: string): Manifest {
  return JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as Manifest;
}

/** Where koffi keeps the native library of a platform that llcuda runs on. */
export const releasePlatforms = ["linux-x64", "linux-arm64", "win32-x64"] as const;

/** What a dependency ships but nobody runs, relative to node_modules. */
const unneeded = [
  "koffi/vendor",
  "koffi/doc",
  "koffi/lib",
  "koffi/cnoke.cjs",
  "koffi/CHANGELOG.md",
  "@huggingface/jinja/src",
  "@huggingface/jinja/tsconfig.json",
];
/** Sources of koffi's native library, which lie beside the JavaScript that loads it. */
const nativeSource = /\.(cc|hh|h|inc|S|asm|def)$|CMakeLists\.txt$/;

/**
 * Fills an empty folder with what the package holds: the sources compiled now, kernels, the demonstration model, the bundled
 * dependencies of package-lock.json, and koffi's native libraries for `platforms` (undefined: only that of this machine, for
 * which nothing is downloaded).
 */
export function stage(folder: string, platforms?: readonly string[]): void {
  const manifest = readManifest(root);
  const compiler = join(root, "node_modules", "typescript", "bin", "tsc");
  const build = ["-p", join(root, "tsconfig.build.json"), "--outDir", join(folder, "dist")];
  execFileSync(process.execPath, [compiler, ...build], { stdio: "inherit" });
  for (const name of ["package.json", "README.md", "LICENSE", ...manifest.files]) {
    if (name !== "dist" && existsSync(join(root, name)))
      cpSync(join(root, name), join(folder, name), { recursive: true });
  }
  const modules = join(folder, "node_modules");
  for (const name of manifest.bundleDependencies) {
    // npm leaves out a dependency that has folders of its own below; none has.
    cpSync(join(root, "node_modules", name), join(modules, name), { recursive: true, dereference: true });
  }
  for (const name of unneeded) rmSync(join(modules, name), { recursive: true, force: true });
  for (const file of readdirSync(join(modules, "koffi"), { recursive: true, encoding: "utf8" })) {
    if (nativeSource.test(file)) rmSync(join(modules, "koffi", file), { force: true });
  }
  addNatives(modules, platforms);
}

function addNatives(modules: string, platforms: readonly string[] | undefined): void {
  const target = join(modules, "@koromix");
  mkdirSync(target, { recursive: true });
  if (!platforms) {
    cpSync(join(root, "node_modules", "@koromix"), target, { recursive: true, dereference: true });
    return;
  }
  const { version } = readManifest(join(modules, "koffi"));
  for (const platform of platforms) {
    const name = `koffi-${platform}`;
    const [{ filename }] = JSON.parse(npm(target, ["pack", "--json", `@koromix/${name}@${version}`])) as [
      { filename: string },
    ];
    execFileSync("tar", ["-xzf", filename], { cwd: target });
    rmSync(join(target, filename));
    renameSync(join(target, "package"), join(target, name));
  }
}

/** Makes the tarball of a staged folder in `out` and gives its path. */
export function packStaged(folder: string, out: string): string {
  mkdirSync(out, { recursive: true });
  const [{ filename }] = JSON.parse(npm(folder, ["pack", "--json", "--ignore-scripts", "--pack-destination", out])) as [
    { filename: string },
  ];
  return join(out, filename);
}

/** The folder of this checkout. */
export const checkout: string = dirname(join(root, "package.json"));
