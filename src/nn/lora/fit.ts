import { FormatError, UnsupportedError } from "../../base/errors.ts";
import { formatShape } from "../../base/shape.ts";
import type { LoraAdapter, LoraModule, TokenRows } from "../../formats/peft/adapter.ts";
import type { TensorInfo } from "../../formats/weight-source.ts";
import type { QuantizedWeight } from "../../tensor/quantized-weight.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { Linear } from "../linear.ts";
import type { MixtureOfExperts } from "../moe.ts";
import { QuantizedLinear } from "../quantized-linear.ts";
import { type Place, plainName } from "./places.ts";
import { checkRows } from "./token-rows.ts";

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
  readonly place: Exclude<Place, { kind: "experts" }>;
}

/** Rows of single tokens, and every place that has them: a head that shares the embedding's weight too. */
export interface FittedTokens {
  readonly rows: TokenRows;
  readonly places: readonly TablePlace[];
}

/** Where the rows of a matrix are those of tokens. */
export type TablePlace = Extract<Place, { kind: "embedding" | "projection" }>;

export interface FittedAdapter {
  readonly modules: readonly FittedModule[];
  readonly replaced: readonly FittedWeight[];
  readonly tokens: readonly FittedTokens[];
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
    if (kindAt(place) !== module.kind) {
      throw new FormatError(
        module.a.file,
        `${module.a.file}: ${module.name} is adapted as ${kindNames[module.kind]}, which it is not in the base model`,
      );
    }
    if (place.kind === "experts") expertsWeight(module, place.mixture);
    else checkFactors(module, place);
    return { module, place };
  });
  const replaced = [...adapter.replaced].map(([name, info]): FittedWeight => {
    const field = name.endsWith(".bias") ? "bias" : "weight";
    const place = findPlace(adapter, name.slice(0, -field.length - 1), places);
    if (place.kind === "experts") throw mismatch(info, place.mixture.gateUp.shape);
    const shape = shapeAt(place);
    const expected = field === "bias" ? shape.slice(0, 1) : shape;
    if (formatShape(info.shape) !== formatShape(expected)) {
      throw isResized(info.shape, expected, place) ? resized(adapter, info, expected) : mismatch(info, expected);
    }
    return { info, field, place };
  });
  const tokens = adapter.tokens.map((rows): FittedTokens => {
    const place = findPlace(adapter, rows.name, places);
    if ((place.kind !== "embedding" && place.kind !== "projection") || isPart(place)) {
      throw new FormatError(
        rows.rows.file,
        `${rows.rows.file}: ${rows.name} has rows of tokens, but in the base model it is neither embedding nor head`,
      );
    }
    checkRows(adapter, rows, shapeAt(place));
    return { rows, places: [place, ...tiedHeads(place, places, adapter)] };
  });
  return { modules, replaced, tokens };
}

function isPart(place: TablePlace): boolean {
  return place.kind === "projection" && place.projection.stacks.length > 1;
}

/**
 * The head that shares the embedding's matrix, which PEFT trains along with it. Not where the adapter has rows for the head itself, and
 * none the other way round: these are the head's alone.
 */
function tiedHeads(place: TablePlace, places: ReadonlyMap<string, Place>, { tokens }: LoraAdapter): TablePlace[] {
  if (place.kind !== "embedding") return [];
  const own = new Set(tokens.map(({ name }) => places.get(plainName(name))));
  return [...places.values()].filter(
    (other): other is TablePlace =>
      other.kind === "projection" && matrixAt(other) === place.embedding.weight && !own.has(other),
  );
}

function matrixAt(place: Place): Tensor | QuantizedWeight | undefined {
  if (place.kind === "embedding") return place.embedding.weight;
  if (place.kind !== "projection") return undefined;
  const { projection } = place;
  return projection instanceof Linear || projection instanceof QuantizedLinear ? projection.weight : undefined;
}

function findPlace(adapter: LoraAdapter, name: string, places: ReadonlyMap<string, Place>): Place {
  const place = places.get(plainName(name));
  if (place) return place;
  const known = [...places.keys()].some((key) => key.split(".").at(-1) === name.split(".").at(-1));
  throw new UnsupportedError(
    known
      ? `${adapter.directory}: the adapter works on "${name}", but the base model has no such layer; it was trained on another base`
      : `${adapter.directory}: the adapter works on "${name}"; llcuda applies adapters to the projections of attention and feed-forward, to experts, norms, embeddings and the head`,
  );
}

const kindNames = { embedding: "an embedding", linear: "a projection", experts: "all experts of a layer" } as const;

function kindAt({ kind }: MatrixPlace): LoraModule["kind"] {
  return kind === "embedding" || kind === "experts" ? kind : "linear";
}

/** Which parameter of a mixture a change of all its experts fits; shapes tell, for 2F = C = F cannot be. Throws FormatError. */
export function expertsWeight(
  { rank, a, b }: LoraModule,
  { experts, router, down }: MixtureOfExperts,
): "gateUp" | "down" {
  const [hidden, inner] = [router.shape[1]!, down.shape.at(-1)!];
  const fits = (rows: number, cols: number) => b.shape[0] === rows && a.shape[1] === cols;
  if (a.shape[0] === experts * rank) {
    if (fits(2 * inner, hidden)) return "gateUp";
    if (fits(hidden, inner)) return "down";
  }
  throw mismatch(b, [hidden, experts * rank]);
}

/** [rows, columns] of the module's weight. */
function shapeAt(place: Exclude<Place, { kind: "experts" }>): readonly number[] {
  switch (place.kind) {
    case "embedding":
      return place.embedding.weight.shape;
    case "norm":
      return place.norm.weight.shape;
    case "expert":
      return [place.rows, place.mixture[place.weight].shape.at(-1)!];
    case "projection":
      return [place.rows, place.projection.inFeatures];
  }
}

function checkFactors({ kind, rank, a, b }: LoraModule, place: Exclude<MatrixPlace, { kind: "experts" }>): void {
  const [rows, cols] = shapeAt(place) as [number, number];
  const [outputs, inputs] = kind === "embedding" ? [cols, rows] : [rows, cols];
  if (a.shape[1] !== inputs) throw mismatch(a, [rank, inputs]);
  if (b.shape[0] !== outputs) throw mismatch(b, [outputs, rank]);
}

/** Whether an embedding or a head has only another number of rows. */
function isResized(shape: readonly number[], expected: readonly number[], place: Place): boolean {
  const isHead = place.kind === "projection" && /(^|\.)lm_head$/.test(place.projection.stacks[0]?.name ?? "");
  return (place.kind === "embedding" || isHead) && shape.length === 2 && shape[1] === expected[1];
}

function resized({ directory }: LoraAdapter, { name, shape }: TensorInfo, expected: readonly number[]): FormatError {
  return new FormatError(
    directory,
    `${directory}: training changed the size of the vocabulary: "${name}" is ${formatShape(shape)}, but the base model calls for ${formatShape(expected)}; load the adapter along with its base (its directory as the model, or --adapter), or write a merged model with "llcuda merge"`,
  );
}

function mismatch(info: TensorInfo, expected: readonly number[]): FormatError {
  return new FormatError(
    info.file,
    `${info.file}: "${info.name}" is ${formatShape(info.shape)}, but the base model calls for ${formatShape(expected)}; the adapter was trained on another base`,
  );
}
