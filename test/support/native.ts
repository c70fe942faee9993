import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

/** Why tests that compile a C stub cannot run here, or undefined when they can. */
export const noCompiler: string | undefined = (() => {
  if (process.platform === "win32") return "the C stubs are built with cc, which Windows does not have";
  try {
    execFileSync("cc", ["--version"], { stdio: "ignore" });
    return undefined;
  } catch {
    return "there is no C compiler (cc)";
  }
})();

/** Compiles C sources of test/ to a shared library in a folder of its own. */
export class NativeStub {
  readonly folder = mkdtempSync(path.join(tmpdir(), "llcuda-stub-"));

  /** `file` is relative to test/; `name` is the library's file name. */
  build(file: string, name: string, defines: readonly string[] = []): string {
    const source = path.join(import.meta.dirname, "..", file);
    const library = path.join(this.folder, name);
    const flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"];
    execFileSync("cc", [...flags, ...defines.map((d) => `-D${d}`), "-o", library, source]);
    return library;
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
