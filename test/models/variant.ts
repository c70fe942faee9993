import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { decodeArray } from "../../src/base/element.ts";
import { openCheckpoint } from "../../src/formats/safetensors/checkpoint.ts";
import { type TensorToWrite, writeCheckpoint } from "../../src/formats/safetensors/write.ts";

export const fixtures = fileURLToPath(new URL("../fixtures/", import.meta.url));

/** A tensor of a checkpoint as float32 numbers. */
export interface Values {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/**
 * A golden checkpoint with another config, and with other weights when `rewrite` gives some. Gone when the test disposes it.
 * `changes` replaces fields (undefined removes one), or makes a config of the given one.
 */
export class Variant implements Disposable {
  readonly directory = mkdtempSync(join(tmpdir(), "llcuda-variant-"));

  constructor(
    fixture: string,
    changes: Readonly<Record<string, unknown>> | ((config: Record<string, unknown>) => object),
    rewrite?: (tensors: readonly Values[]) => readonly Values[],
  ) {
    const source = join(fixtures, fixture);
    const config = JSON.parse(readFileSync(join(source, "config.json"), "utf8"));
    const changed = typeof changes === "function" ? changes(config) : { ...config, ...changes };
    writeFileSync(join(this.directory, "config.json"), JSON.stringify(changed));
    for (const file of ["expected.safetensors", "generation_config.json"]) this.#link(source, file);
    if (rewrite) writeCheckpoint(this.directory, rewrite(readValues(source)).map(asFloat32));
    else this.#link(source, "model.safetensors");
  }

  #link(source: string, file: string): void {
    symlinkSync(join(source, file), join(this.directory, file));
  }

  [Symbol.dispose](): void {
    rmSync(this.directory, { recursive: true });
  }
}

function readValues(directory: string): Values[] {
  using source = openCheckpoint(directory);
  return [...source.tensors.values()].map(({ name, shape, elementType }) => {
    // A copy, for a view of 16-bit elements needs an even offset.
    const stored = elementType!.view(source.read(name).slice());
    return { name, shape, data: Float32Array.from(decodeArray(elementType!, stored)) };
  });
}

function asFloat32(values: Values): TensorToWrite {
  return { ...values, dtype: "float32" };
}
