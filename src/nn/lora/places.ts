import { Embedding } from "../embedding.ts";
import type { Module } from "../module.ts";
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
    if (!(module instanceof Projection)) continue;
    let begin = 0;
    for (const [part, { name, rows }] of module.stacks.entries()) {
      places.set(plainName(name), { kind: "projection", projection: module, part, begin, rows });
      begin += rows;
    }
  }
  return places;
}
