import { ggmlType } from "../../base/ggml.ts";
import type { Stream } from "../../driver/stream.ts";
import { launch } from "../library.ts";
import type { ArgValues } from "../spec.ts";
import { mapBlocks } from "../tensor-map.ts";
import { type GgmlBlock, ggmlBoxes } from "./ggml-layout.ts";
import { mmaTile } from "./layout.ts";
import type { QuantMatmulParams } from "./params.ts";
import { ggmlBulkKernel, ggmlMmaKernel, type quantArgs } from "./specs.ts";

/** Launches ggml_mma or ggml_bulk for a product that quantRefusal does not refuse them. */
export function launchGgml(
  stream: Stream,
  p: QuantMatmulParams,
  values: ArgValues<typeof quantArgs>,
  choice: { readonly kernel: "mma" | "bulk"; readonly ggml: GgmlBlock },
): void {
  if (p.weight.kind !== "ggml") return;
  const { type } = p.weight;
  const { rows, warps, slices, parts, together, blocks, sharedBytes } = choice.ggml;
  const dtype = p.dtype.short === "bf16" ? "bf16" : "f16";
  const shape = { grid: [blocks] as const, block: 32 * warps, sharedBytes };
  const args = { ...values, slices, parts, together };
  const options = { overlap: p.overlap === true };
  if (choice.kernel === "mma") {
    launch(stream, ggmlMmaKernel, { format: type, dtype, rows: rows === "2" ? rows : "16" }, shape, args, options);
    return;
  }
  const format = type as (typeof ggmlBulkKernel.axes.format)[number];
  const { device } = stream;
  const [map] = mapBlocks(device.api);
  const { blockElements, blockBytes } = ggmlType(type);
  const rowBytes = (p.k / blockElements) * blockBytes;
  // Gate and up are two planes, so that one box holds the rows of both that belong to the same columns of D.
  const planes = p.gate ? 2 : 1;
  device.makeCurrent();
  device.api.encodeTensorMap(map.block, {
    address: p.weight.blocks,
    element: "u8",
    dims: [rowBytes, p.n, planes],
    strideBytes: [rowBytes, rowBytes * p.n],
    box: [ggmlBoxes[type]!.width, mmaTile / planes, planes],
    swizzle: 0,
  });
  launch(stream, ggmlBulkKernel, { format, dtype, rows }, shape, { map: map.bytes, ...args }, options);
}
