import { float32 } from "../../src/base/dtype.ts";
import type { Device } from "../../src/driver/device.ts";
import { type StoredWeight, storedWeights } from "../../src/formats/stored/stored-weights.ts";
import { isProjection } from "../../src/models/export/modules.ts";
import { StoredValues } from "../../src/models/export/stored-values.ts";
import { findModel } from "../../src/models/find-model.ts";

export interface Matrix {
  /** How its file stores it. */
  readonly stored: StoredWeight;
  /** [N, K]. */
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** The projections of a model by name, which are what is quantized. Quantized ones are dequantized on `device`. */
export async function projections(model: string, device: Device): Promise<ReadonlyMap<string, Matrix>> {
  using source = findModel(model).openWeights();
  const reader = new StoredValues(source, () => device);
  const found = new Map<string, Matrix>();
  for (const [name, stored] of storedWeights(source)) {
    if (!isProjection(stored)) continue;
    using tensor = await reader.load(stored, float32);
    found.set(name, { stored, shape: stored.shape, values: tensor.toArray() as Float32Array });
  }
  return found;
}
