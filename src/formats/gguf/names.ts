import { UnsupportedError } from "../../base/errors.ts";
import { type GgufArchitecture, modelTensors } from "./architectures.ts";
import type { GgufTensor } from "./header.ts";

/** A tensor by its name in the checkpoint, or a part of one. */
export interface NamedPart {
  readonly name: string;
  /** Which of the equal parts along the first dimension; undefined for the whole tensor. */
  readonly part?: number;
}

/** Several times what any model has. */
const maxExperts = 4096;

/** Names a tensor of a GGUF file as the checkpoint did; merged experts come apart. Throws UnsupportedError for a name with no place. */
export function checkpointNames(tensor: GgufTensor, architecture: GgufArchitecture): NamedPart[] {
  const whole = /^([a-z_]+)\.(weight|bias)$/.exec(tensor.name);
  const module = whole && own(modelTensors, whole[1]!);
  if (module) return [{ name: `${module}.${whole[2]}` }];
  const inLayer = /^blk\.(\d+)\.([a-z_]+)(?:\.(\d+))?\.(weight|bias)$/.exec(tensor.name);
  if (inLayer) {
    const [, layer, base, expert, kind] = inLayer;
    const name = (place: string) => `model.layers.${Number(layer)}.${place}.${kind}`;
    const place = expert === undefined ? own(architecture.layer, base!) : undefined;
    if (place) return [{ name: name(place) }];
    const { experts } = architecture;
    if (experts && base === "ffn_gate_inp" && expert === undefined) return [{ name: name(experts.router) }];
    const merged = /^(ffn_gate|ffn_up|ffn_down)(_exps)?$/.exec(base!);
    if (experts && merged) {
      const pattern = experts[merged[1] as "ffn_gate"];
      const numbered = (e: number) => name(pattern.replace("{e}", String(e)));
      if (merged[2] === undefined && expert !== undefined) return [{ name: numbered(Number(expert)) }];
      const count = tensor.shape.length === 3 && expert === undefined ? tensor.shape[0]! : 0;
      if (merged[2] && count > 0 && count <= maxExperts)
        return Array.from({ length: count }, (_, part) => ({ name: numbered(part), part }));
    }
  }
  throw new UnsupportedError(
    `${tensor.file}: tensor "${tensor.name}" has no place in a model of type ${architecture.modelType}`,
  );
}

function own(table: Readonly<Record<string, string>>, key: string): string | undefined {
  return Object.hasOwn(table, key) ? table[key] : undefined;
}
