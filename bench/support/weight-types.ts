import { join } from "node:path";
import { checkpointFormatOf } from "../../src/models/export/formats.ts";
import { quantizeModel } from "../../src/models/export/quantize-model.ts";

/** What `all` stands for, in the order of a table. */
const allTypes = [
  ...["stored", "nf4", "nf4-dq", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"],
  ...["q6_k", "q5_k_m", "q4_k_m", "q4_k_s", "q3_k_m", "q2_k"],
];

/** The types of a comma-separated list. */
export function weightTypes(list: string): readonly string[] {
  return list === "all" ? allTypes : list.split(",");
}

export interface WeightsSource {
  readonly path: string;
  /** What loading quantizes to. */
  readonly quantization?: string;
}

/**
 * `model` with its weights in a type: `stored` is the model itself; `load-nf4` and `load-fp4` are quantized while loading, from what the
 * model computes in; other types `llcuda quantize` writes, to `scratch`.
 */
export async function withWeights(
  model: string,
  type: string,
  scratch: string,
  device: string,
): Promise<WeightsSource> {
  if (type === "stored") return { path: model };
  if (type.startsWith("load-")) return { path: model, quantization: type.slice("load-".length) };
  const path = join(scratch, checkpointFormatOf(type) ? type : `${type}.gguf`);
  await quantizeModel(model, path, { to: type, device });
  return { path };
}
