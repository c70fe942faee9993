import { FormatError, UnsupportedError } from "../../base/errors.ts";
import { formatShape } from "../../base/shape.ts";
import type { LoraAdapter, LoraModule } from "../../formats/peft/adapter.ts";
import type { TensorInfo } from "../../formats/weight-source.ts";
import { type Place, plainName } from "./places.ts";

/** Where a low-rank change fits: not at norms, whose weights are vectors. */
export type MatrixPlace = Exclude<Place, { kind: "norm" }>;

/** A module of an adapter and the place that it fits. */
export interface FittedModule {
  readonly module: LoraModule;
  readonly place: MatrixPlace;
}

/** A weight that replaces the base's, and its place. */
export interface FittedWeight {
  readonly info: TensorInfo;
  readonly field: "weight" | "bias";
  readonly place: Place;
}

export interface FittedAdapter {
  readonly modules: readonly FittedModule[];
  readonly replaced: readonly FittedWeight[];
}

/**
 * Finds the place of everything in an adapter. Throws FormatError for shapes that are not the base's, UnsupportedError for
 * modules that the base does not have as projections.
 */
export function fitAdapter(adapter: LoraAdapter, places: ReadonlyMap<string, Place>): FittedAdapter {
  const modules = [...adapter.modules.values()].map((module) => {
    const place = findPlace(adapter, module.name, places);
    if (place.kind === "norm") {
      throw new FormatError(
        module.a.file,
        `${module.a.file}: ${module.name} is adapted as a projection, but in the base model it is a norm`,
      );
    }
    if ((place.kind === "embedding") !== (module.kind === "embedding")) {
      throw new FormatError(
        module.a.file,
        `${module.a.file}: ${module.name} is adapted as ${module.kind === "embedding" ? "an embedding" : "a projection"}, which it is not in the base model`,
      );
    }
    checkFactors(module, place);
    return { module, place };
  });
  const replaced = [...adapter.replaced].map(([name, info]): FittedWeight => {
    const field = name.endsWith(".bias") ? "bias" : "weight";
    const place = findPlace(adapter, name.slice(0, -field.length - 1), places);
    const shape = shapeAt(place);
    const expected = field === "bias" ? shape.slice(0, 1) : shape;
    if (formatShape(info.shape) !== formatShape(expected)) throw mismatch(info, expected);
    return { info, field, place };
  });
  return { modules, replaced };
}

function findPlace(adapter: LoraAdapter, name: string, places: ReadonlyMap<string, Place>): Place {
  const place = places.get(plainName(name));
  if (place) return place;
  const known = [...places.keys()].some((key) => key.split(".").at(-1) === name.split(".").at(-1));
  throw new UnsupportedError(
    known
      ? `${adapter.directory}: the adapter works on "${name}", but the base model has no such layer; it was trained on another base`
      : `${adapter.directory}: the adapter works on "${name}"; llcuda applies adapters to the projections of attention and feed-forward, to norms, embeddings and the head`,
  );
}

/** [rows, columns] of the module's weight. */
function shapeAt(place: Place): readonly number[] {
  switch (place.kind) {
    case "embedding":
      return place.embedding.weight.shape;
    case "norm":
      return place.norm.weight.shape;
    case "projection":
      return [place.rows, place.projection.inFeatures];
  }
}

function checkFactors({ kind, rank, a, b }: LoraModule, place: MatrixPlace): void {
  const [rows, cols] = shapeAt(place) as [number, number];
  const [outputs, inputs] = kind === "embedding" ? [cols, rows] : [rows, cols];
  if (a.shape[1] !== inputs) throw mismatch(a, [rank, inputs]);
  if (b.shape[0] !== outputs) throw mismatch(b, [outputs, rank]);
}

function mismatch(info: TensorInfo, expected: readonly number[]): FormatError {
  return new FormatError(
    info.file,
    `${info.file}: "${info.name}" is ${formatShape(info.shape)}, but the base model calls for ${formatShape(expected)}; the adapter was trained on another base`,
  );
}
