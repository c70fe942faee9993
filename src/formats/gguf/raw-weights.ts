import type { StoredWeight } from "../stored/stored-weights.ts";
import { describeStored } from "../stored/stored-weights.ts";
import type { GgufParts } from "./parts.ts";
import { tensorInfo } from "./weights.ts";

/** The tensors of a GGUF model under their own names, whatever its architecture: to be listed, not to be loaded. */
export function rawGgufWeights({ tensors }: GgufParts): StoredWeight[] {
  return [...tensors.values()].map((tensor) => describeStored(tensorInfo(tensor, tensor.name, undefined)));
}
