import { type DType, float32 } from "../../base/dtype.ts";
import { UnsupportedError } from "../../base/errors.ts";
import type { Device } from "../../driver/device.ts";
import { LoraAdapter, type LoraModule } from "../../formats/peft/adapter.ts";
import type { TensorInfo } from "../../formats/weight-source.ts";
import { Tensor } from "../../tensor/tensor.ts";
import { tidy } from "../../tensor/tidy.ts";
import type { Upload } from "../checkpoint-weights.ts";
import { Linear } from "../linear.ts";
import type { Module } from "../module.ts";
import type { MixtureOfExperts } from "../moe.ts";
import { type UploadOptions, uploadWeights } from "../upload.ts";
import { changesNothing, hasEffect } from "./effect.ts";
import { expertsWeight, type FittedAdapter, type FittedWeight, fitAdapter, type MatrixPlace } from "./fit.ts";
import { addLowRank, addScaled } from "./low-rank.ts";
import { findPlaces, type Place } from "./places.ts";
import { placeRows } from "./token-rows.ts";

/**
 * Adds a PEFT LoRA adapter to the weights of a network, for good: W + scale · B·A in float32, rounded once to the weight's dtype;
 * with DoRA every row is brought to its magnitude first. Weights that the adapter trained whole take the base's place; a head
 * that shared its weight with the embedding gets its own where only one of the two changes.
 * Throws FileError, FormatError where the adapter does not fit or changes nothing, UnsupportedError for weights that are quantized.
 */
export async function mergeAdapter(
  network: Module & { readonly device: Device; readonly dtype: DType },
  directory: string,
  options: UploadOptions = {},
): Promise<void> {
  using adapter = LoraAdapter.open(directory);
  const fitted = fitAdapter(adapter, findPlaces(network));
  if (!hasEffect(adapter) && fitted.replaced.length + fitted.tokens.length === 0) throw changesNothing(adapter);
  // Before anything has changed.
  for (const { place } of [...fitted.modules, ...fitted.replaced]) refuseQuantized(place);
  for (const place of fitted.tokens.flatMap(({ places }) => places)) refuseQuantized(place);
  for (const { module, place } of fitted.modules) if (module.bias) biasAt(adapter.directory, module, place);
  untie(network, fitted);
  const { device } = network;
  const uploads: Upload[] = [];
  const factors: Tensor[] = [];
  const upload = (info: TensorInfo): Tensor => {
    const target = Tensor.empty(info.shape, { dtype: float32, device });
    factors.push(target);
    uploads.push({ info, from: info.elementType!, target, targetOffset: 0 });
    return target;
  };
  try {
    const work = fitted.modules.map(({ module, place }) => {
      const a = upload(module.a);
      const b = upload(module.b);
      const magnitude = module.magnitude && upload(module.magnitude);
      const bias = module.bias && upload(module.bias);
      return () => {
        mergeModule(module, place, { a, b, magnitude });
        if (bias) addScaled(biasAt(adapter.directory, module, place), bias, module.scale);
      };
    });
    const rows = fitted.tokens.map(({ rows: { rows, tokens }, places }) => {
      const values = upload(rows);
      return () => {
        for (const table of new Set(places.map(weightOf))) placeRows(table, values, tokens);
      };
    });
    for (const { info, field, place } of fitted.replaced) {
      uploads.push({ info, from: info.elementType!, ...replacedTarget(info, field, place) });
    }
    await uploadWeights(adapter.source, uploads, device, options);
    for (const merge of [...rows, ...work]) tidy(merge);
  } finally {
    for (const tensor of factors) tensor.dispose();
  }
}

interface Factors {
  readonly a: Tensor;
  readonly b: Tensor;
  readonly magnitude: Tensor | undefined;
}

function mergeModule(module: LoraModule, place: MatrixPlace, { a, b, magnitude }: Factors): void {
  const { scale, rank } = module;
  if (place.kind === "embedding") {
    addLowRank(weightOf(place), { left: a.transpose(0, 1), right: b.transpose(0, 1), scale });
    return;
  }
  if (place.kind === "experts") {
    const { experts } = place.mixture;
    const all = floatWeight(place.mixture, expertsWeight(module, place.mixture));
    const apart = b.reshape([b.shape[0]!, rank, experts]);
    for (let e = 0; e < experts; e++) {
      const left = apart.select(2, e).contiguous();
      addLowRank(all.select(0, e), { left, right: a.narrow(0, e * rank, rank), scale });
    }
    return;
  }
  const rows = weightOf(place).narrow(0, place.begin, place.rows);
  addLowRank(rows, { left: b, right: a, scale }, magnitude && ((sums, first) => rescale(sums, magnitude, first)));
}

/** Brings each row [K] of `sums` to its magnitude, as DoRA has it (arXiv 2402.09353, equation 5). */
export function rescale(sums: Tensor, magnitude: Tensor, first: number): void {
  tidy(() => {
    const count = sums.shape[0]!;
    const wanted = magnitude.reshape([magnitude.size]).narrow(0, first, count).reshape([count, 1]);
    sums.mul_(wanted.div(sums.mul(sums).sum(1, true).sqrt()));
  });
}

function replacedTarget(
  info: TensorInfo,
  field: "weight" | "bias",
  place: FittedWeight["place"],
): { target: Tensor; targetOffset: number } {
  const begin = place.kind === "projection" ? place.begin : 0;
  if (field === "weight" && place.kind === "expert") {
    const target = floatWeight(place.mixture, place.weight);
    const [, rows, cols] = target.shape as [number, number, number];
    return { target, targetOffset: (place.expert * rows + place.begin) * cols };
  }
  if (field === "weight") {
    const target = weightOf(place);
    return { target, targetOffset: begin * (target.shape[1] ?? 0) };
  }
  const layer = place.kind === "projection" ? place.projection : undefined;
  if (layer instanceof Linear && layer.bias) return { target: layer.bias, targetOffset: begin };
  throw new UnsupportedError(`${info.file}: it has a bias "${info.name}", but the base model's layer has none`);
}

/** The rows [N] of a layer's bias that are a module's. Throws UnsupportedError where the layer has none: no file would have a place for it. */
function biasAt(directory: string, { name }: LoraModule, place: MatrixPlace): Tensor {
  const layer = place.kind === "projection" ? place.projection : undefined;
  if (place.kind === "projection" && layer instanceof Linear && layer.bias) {
    return layer.bias.narrow(0, place.begin, place.rows);
  }
  throw noBias(directory, name);
}

/** For an adapter with a bias of B at a layer without one. */
export function noBias(directory: string, module: string): UnsupportedError {
  return new UnsupportedError(
    `${directory}: the adapter has a bias at ${module} (lora_bias), where the base model has none to add it to; apply it beside the weights (without merge)`,
  );
}

/** The matrix (of a norm, the vector) that a place is in. Throws UnsupportedError when it is quantized. */
function weightOf(place: Exclude<Place, { kind: "experts" }>): Tensor {
  switch (place.kind) {
    case "norm":
      return place.norm.weight;
    case "expert":
      return floatWeight(place.mixture, place.weight).select(0, place.expert);
    case "embedding":
      if (place.embedding.weight instanceof Tensor) return place.embedding.weight;
      throw quantized(place.embedding.name);
    case "projection":
      if (place.projection instanceof Linear) return place.projection.weight;
      throw quantized(place.projection.stacks[place.part]?.name);
  }
}

/** [E, rows, columns]. */
function floatWeight(mixture: MixtureOfExperts, weight: "gateUp" | "down"): Tensor {
  const all = mixture[weight];
  if (all instanceof Tensor) return all;
  throw quantized(`${mixture.checkpoint?.prefix}.experts`);
}

function quantized(name: string | undefined): UnsupportedError {
  return new UnsupportedError(
    `an adapter is merged into float weights, and those of ${name} are quantized; apply it beside them (without merge), or write a merged model with "llcuda merge"`,
  );
}

function refuseQuantized(place: Place): void {
  tidy(() => {
    if (place.kind !== "experts") weightOf(place);
    else for (const weight of ["gateUp", "down"] as const) floatWeight(place.mixture, weight);
  });
}

/** Gives an embedding and a head that share a weight one each, where an adapter changes only one or both apart. */
function untie(network: Module, { modules, replaced, tokens }: FittedAdapter): void {
  const changed = new Set<Module>();
  const apart = tokens.flatMap(({ places }) => (places.length === 1 ? [{ place: places[0]! }] : []));
  for (const { place } of [...modules, ...replaced, ...apart]) {
    if (place.kind === "embedding") changed.add(place.embedding);
    if (place.kind === "projection") changed.add(place.projection);
  }
  const owners = new Map<Tensor, Module>();
  for (const module of network.modules()) {
    if (!("weight" in module) || !(module.weight instanceof Tensor)) continue;
    const layer = module as Module & { weight: Tensor };
    const other = owners.get(layer.weight);
    if (other && (changed.has(layer) || changed.has(other))) layer.weight = layer.weight.clone();
    else owners.set(layer.weight, layer);
  }
}
