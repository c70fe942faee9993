import { type GgufArchitecture, modelTensors } from "../architectures.ts";

/** Where a weight of a checkpoint goes: a tensor of a GGUF file, and of one that experts share, whose part it is. */
export interface GgufPlace {
  readonly name: string;
  readonly expert?: number;
}

/** The reverse of `checkpointNames`; undefined for a name that has no place. */
export function ggufPlace(name: string, architecture: GgufArchitecture): GgufPlace | undefined {
  const match = /^(.+)\.(weight|bias)$/.exec(name);
  if (!match) return undefined;
  const [, path, kind] = match;
  const whole = keyOf(modelTensors, path!);
  if (whole) return { name: `${whole}.${kind}` };
  const layer = /^model\.layers\.(\d+)\.(.+)$/.exec(path!);
  if (!layer) return undefined;
  const [, number, module] = layer;
  const base = keyOf(architecture.layer, module!);
  if (base) return { name: `blk.${number}.${base}.${kind}` };
  const { experts } = architecture;
  if (!experts) return undefined;
  if (module === experts.router) return { name: `blk.${number}.ffn_gate_inp.${kind}` };
  const expert = /\.experts\.(\d+)\./.exec(module!)?.[1];
  const merged = expert && keyOf({ ...experts }, module!.replace(`.${expert}.`, ".{e}."));
  return merged ? { name: `blk.${number}.${merged}_exps.${kind}`, expert: Number(expert) } : undefined;
}

function keyOf(table: Readonly<Record<string, string>>, value: string): string | undefined {
  return Object.entries(table).find(([, module]) => module === value)?.[0];
}
