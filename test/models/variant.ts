import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const fixtures = fileURLToPath(new URL("../fixtures/", import.meta.url));

/** A golden checkpoint with other fields in its config; `undefined` removes one. Gone when the test disposes it. */
export class Variant implements Disposable {
  readonly directory = mkdtempSync(join(tmpdir(), "llcuda-variant-"));

  constructor(fixture: string, changes: Readonly<Record<string, unknown>>) {
    const source = join(fixtures, fixture);
    const config = JSON.parse(readFileSync(join(source, "config.json"), "utf8"));
    writeFileSync(join(this.directory, "config.json"), JSON.stringify({ ...config, ...changes }));
    for (const file of ["model.safetensors", "expected.safetensors", "generation_config.json"]) {
      symlinkSync(join(source, file), join(this.directory, file));
    }
  }

  [Symbol.dispose](): void {
    rmSync(this.directory, { recursive: true });
  }
}
