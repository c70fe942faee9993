import { elementCount } from "../../base/shape.ts";
import type { StoredWeight } from "../../formats/stored/stored-weights.ts";
import { storedBytes, storedTypeName } from "../../formats/stored/stored-weights.ts";

/** What `llcuda inspect` finds in a file or folder; printed as JSON as it is. */
export interface Inspection {
  readonly path: string;
  readonly form: "huggingface" | "gguf" | "adapter" | "safetensors";
  /** As `architectures` in config.json names it, or general.architecture where GGUF's is not known. */
  readonly architecture: string | undefined;
  /** Why llcuda cannot run it; undefined when it can, or when it is no model. */
  readonly refusal: string | undefined;
  readonly parameters: number;
  /** Of the weights as they are stored. */
  readonly weightBytes: number;
  readonly types: readonly TypeSummary[];
  readonly modules: readonly ModuleSummary[];
  readonly shape: ModelShape | undefined;
  readonly cache: CacheSummary | undefined;
  readonly adapter: AdapterSummary | undefined;
}

export interface TypeSummary {
  readonly type: string;
  readonly tensors: number;
  readonly parameters: number;
  readonly bytes: number;
}

/** Weights of one name in all layers (and experts), whose numbers are written as `*`. */
export interface ModuleSummary {
  readonly name: string;
  readonly count: number;
  /** Of each; several where layers differ. */
  readonly shapes: readonly (readonly number[])[];
  /** How many of each type. */
  readonly types: Readonly<Record<string, number>>;
  readonly bytes: number;
}

export interface ModelShape {
  readonly layers: number;
  readonly hiddenSize: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocabSize: number;
  readonly contextLength: number;
}

export interface CacheSummary {
  readonly tokens: number;
  readonly dtype: string;
  /** Of keys and values in all layers, for `tokens` tokens of one sequence. */
  readonly bytes: number;
  /** The part of it in layers that see a window only, which grows no further than that. */
  readonly slidingBytes: number;
  readonly slidingWindow: number | undefined;
}

export interface AdapterSummary {
  readonly baseModel: string | undefined;
  readonly targetModules: readonly string[] | string;
  readonly ranks: readonly number[];
  readonly scales: readonly number[];
  readonly dora: boolean;
  /** Weights that take the place of the base's. */
  readonly replaced: readonly string[];
}

/** The figures that follow from the weights alone. */
export function summarise(
  weights: Iterable<StoredWeight>,
): Pick<Inspection, "parameters" | "weightBytes" | "types" | "modules"> {
  const types = new Map<string, TypeSummary>();
  const modules = new Map<string, ModuleSummary>();
  let parameters = 0;
  let weightBytes = 0;
  for (const weight of weights) {
    const type = storedTypeName(weight);
    const count = elementCount(weight.shape);
    const bytes = storedBytes(weight);
    parameters += count;
    weightBytes += bytes;
    const sum = types.get(type) ?? { type, tensors: 0, parameters: 0, bytes: 0 };
    types.set(type, {
      type,
      tensors: sum.tensors + 1,
      parameters: sum.parameters + count,
      bytes: sum.bytes + bytes,
    });
    const name = weight.name.replaceAll(/(?<=\.)\d+(?=\.)/g, "*");
    modules.set(
      name,
      add(modules.get(name) ?? { name, count: 0, shapes: [], types: {}, bytes: 0 }, weight, type, bytes),
    );
  }
  const byBytes = [...types.values()].sort((a, b) => b.bytes - a.bytes);
  return { parameters, weightBytes, types: byBytes, modules: [...modules.values()] };
}

function add(module: ModuleSummary, { shape }: StoredWeight, type: string, bytes: number): ModuleSummary {
  const isNew = !module.shapes.some((other) => other.length === shape.length && other.every((n, i) => n === shape[i]));
  return {
    name: module.name,
    count: module.count + 1,
    shapes: isNew ? [...module.shapes, shape] : module.shapes,
    types: { ...module.types, [type]: (module.types[type] ?? 0) + 1 },
    bytes: module.bytes + bytes,
  };
}
