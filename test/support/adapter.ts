import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { writeSafetensors } from "../../src/formats/safetensors/write.ts";
import { normals } from "./numerics.ts";

/** A low-rank pair of a module: [rank, inputs] and [outputs, rank] in float32. */
export interface Pair {
  readonly module: string;
  readonly rank: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly a: Float32Array;
  readonly b: Float32Array;
}

/** Random factors whose product is some tenth of the golden checkpoints' weights. */
export function pair(module: string, rank: number, inputs: number, outputs: number, seed: number): Pair {
  const draw = (count: number, part: number) => Float32Array.from(normals(count, 2 * seed + part), (v) => 0.1 * v);
  return { module, rank, inputs, outputs, a: draw(rank * inputs, 0), b: draw(outputs * rank, 1) };
}

/** (B · A)[row, col]. */
export function product({ a, b, rank, inputs }: Pair, row: number, col: number): number {
  let sum = 0;
  for (let r = 0; r < rank; r++) sum += b[row * rank + r]! * a[r * inputs + col]!;
  return sum;
}

export interface AdapterContent {
  readonly pairs?: readonly Pair[];
  /** Low-rank changes of embeddings: A [rank, V], B [C, rank]. */
  readonly embeddings?: readonly Pair[];
  /** Other tensors, by their whole name behind `base_model.model.`. */
  readonly tensors?: Readonly<Record<string, { readonly shape: readonly number[]; readonly data: Float32Array }>>;
  readonly config?: Readonly<Record<string, unknown>>;
}

/** An adapter in a directory as PEFT saves it; alpha is twice the rank of all pairs unless `config` says otherwise. */
export class TemporaryAdapter implements Disposable {
  readonly directory = mkdtempSync(join(tmpdir(), "llcuda-adapter-"));

  constructor({ pairs = [], embeddings = [], tensors = {}, config = {} }: AdapterContent) {
    const all = [...pairs, ...embeddings];
    const rank_pattern = Object.fromEntries(all.map(({ module, rank }) => [module, rank]));
    const alpha_pattern = Object.fromEntries(all.map(({ module, rank }) => [module, 2 * rank]));
    const defaults = { peft_type: "LORA", r: 8, lora_alpha: 16, target_modules: [], rank_pattern, alpha_pattern };
    writeFileSync(join(this.directory, "adapter_config.json"), JSON.stringify({ ...defaults, ...config }));
    const factors = ({ module, rank, inputs, outputs, a, b }: Pair, [nameA, nameB]: readonly [string, string]) => [
      { name: `base_model.model.${module}.${nameA}`, dtype: "float32", shape: [rank, inputs], data: a } as const,
      { name: `base_model.model.${module}.${nameB}`, dtype: "float32", shape: [outputs, rank], data: b } as const,
    ];
    writeSafetensors(join(this.directory, "adapter_model.safetensors"), [
      ...pairs.flatMap((p) => factors(p, ["lora_A.weight", "lora_B.weight"])),
      ...embeddings.flatMap((p) => factors(p, ["lora_embedding_A", "lora_embedding_B"])),
      ...Object.entries(tensors).map(([name, { shape, data }]) => ({
        name: `base_model.model.${name}`,
        dtype: "float32" as const,
        shape,
        data,
      })),
    ]);
  }

  [Symbol.dispose](): void {
    rmSync(this.directory, { recursive: true });
  }
}
