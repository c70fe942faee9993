import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { float16 } from "../../src/base/dtype.ts";
import { encodeArray } from "../../src/base/element.ts";
import { writeSafetensors } from "../../src/formats/safetensors/write.ts";
import { findPlaces } from "../../src/nn/lora/places.ts";
import type { Module } from "../../src/nn/module.ts";

/** Of the random numbers that all factors begin with. */
const period = 1 << 20;

/**
 * A directory with a LoRA adapter, as PEFT saves it, for every module of `network` that its layers project with (the head is
 * left out). Scattered numbers, small enough that what they add is small beside the base's results.
 */
export class RandomAdapter implements Disposable {
  readonly directory = mkdtempSync(join(tmpdir(), "llcuda-bench-adapter-"));

  constructor(network: Module, rank: number) {
    writeFileSync(
      join(this.directory, "adapter_config.json"),
      JSON.stringify({ peft_type: "LORA", r: rank, lora_alpha: rank, target_modules: [] }),
    );
    const numbers = encodeArray(
      float16,
      Float64Array.from({ length: period }, (_, i) => 0.02 * (((i * 7919) % 10_007) / 10_007 - 0.5)),
    );
    const tensor = (name: string, rows: number, cols: number) => ({
      name: `base_model.model.${name}.weight`,
      dtype: "float16" as const,
      shape: [rows, cols],
      data: () => {
        const data = new Uint16Array(rows * cols);
        for (let at = 0; at < data.length; at += period) {
          data.set(numbers.subarray(0, Math.min(period, data.length - at)) as Uint16Array, at);
        }
        return data;
      },
    });
    const factors = [...findPlaces(network)].flatMap(([name, place]) => {
      if (place.kind !== "projection" || !name.startsWith("layers.")) return [];
      return [tensor(`${name}.lora_A`, rank, place.projection.inFeatures), tensor(`${name}.lora_B`, place.rows, rank)];
    });
    writeSafetensors(join(this.directory, "adapter_model.safetensors"), factors);
  }

  [Symbol.dispose](): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}
