import { Embedding } from "../embedding.ts";
import type { Module } from "../module.ts";
import { MixtureOfExperts } from "../moe.ts";
import { Projection } from "../projection.ts";
import { RMSNorm } from "../rms-norm.ts";

/** Where in a network a module of the checkpoint ended up. */
export type Place =
  | {
      readonly kind: "projection";
      readonly projection: Projection;
      /** Index and first row of the module in the projection's stack. */
      readonly part: number;
      readonly begin: number;
      readonly rows: number;
    }
  | { readonly kind: "embedding"; readonly embedding: Embedding }
  /** Of one expert: rows of its gate and up projections [2F, C], or its down projection [C, F]. */
  | {
      readonly kind: "expert";
      readonly mixture: MixtureOfExperts;
      readonly weight: "gateUp" | "down";
      readonly expert: number;
      readonly begin: number;
      readonly rows: number;
    }
  /** One of the two parameters that all experts of a layer share; which, the shapes say. */
  | { readonly kind: "experts"; readonly mixture: MixtureOfExperts }
  /** Only for weights that were trained whole. */
  | { readonly kind: "norm"; readonly norm: RMSNorm };

/** A module's name less what checkpoints put before their decoder: adapters and bases need not agree about that. */
export function plainName(name: string): string {
  return name.replace(/^(?:model\.language_model|language_model\.model|language_model|model)\./, "");
}

/** Every module that adapters can work on, by its plain name. */
export function findPlaces(network: Module): Map<string, Place> {
  const places = new Map<string, Place>();
  for (const module of network.modules()) {
    if (module instanceof Embedding && module.name !== undefined) {
      places.set(plainName(module.name), { kind: "embedding", embedding: module });
    }
    if (module instanceof RMSNorm && module.name !== undefined) {
      places.set(plainName(module.name), { kind: "norm", norm: module });
    }
    if (module instanceof MixtureOfExperts) for (const [name, place] of expertPlaces(module)) places.set(name, place);
    if (!(module instanceof Projection)) continue;
    let begin = 0;
    for (const [part, { name, rows }] of module.stacks.entries()) {
      places.set(plainName(name), { kind: "projection", projection: module, part, begin, rows });
      begin += rows;
    }
  }
  return places;
}

/**
 * The places of a mixture, by the checkpoint's names and by those of transformers 5, where every mixture is `mlp` and its two
 * parameters are wrapped, one inside the other.
 */
function* expertPlaces(mixture: MixtureOfExperts): Generator<[string, Place]> {
  if (!mixture.checkpoint) return;
  const { prefix, names } = mixture.checkpoint;
  const all = `${plainName(prefix)}.experts`;
  const today = all.replace(/\.block_sparse_moe\./, ".mlp.");
  for (const name of [today, `${today}.base_layer`]) yield [name, { kind: "experts", mixture }];
  const [hidden, inner] = [mixture.router.shape[1]!, mixture.down.shape.at(-1)!];
  for (let expert = 0; expert < mixture.experts; expert++) {
    const part = (weight: "gateUp" | "down", begin: number, rows: number): Place => ({
      kind: "expert",
      mixture,
      weight,
      expert,
      begin,
      rows,
    });
    yield [`${all}.${expert}.${names.gate}`, part("gateUp", 0, inner)];
    yield [`${all}.${expert}.${names.up}`, part("gateUp", inner, inner)];
    yield [`${all}.${expert}.${names.down}`, part("down", 0, hidden)];
  }
}
