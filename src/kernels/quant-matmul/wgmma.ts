import { float32 } from "../../base/dtype.ts";
import { ggmlType } from "../../base/ggml.ts";
import { nullPtr, ptrAdd } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";
import { launch } from "../library.ts";
import { matmulFlags } from "../matmul/specs.ts";
import type { ArgValues } from "../spec.ts";
import { mapBlocks } from "../tensor-map.ts";
import { combineParts } from "./gemm.ts";
import { gemmTile } from "./gemm-layout.ts";
import type { QuantMatmulParams } from "./params.ts";
import { code4WgmmaKernel, ggmlWgmmaKernel, type quantArgs } from "./specs.ts";
import { type WgmmaBlock, wgmmaBoxes, wgmmaRows, wgmmaThreads } from "./wgmma-layout.ts";

/**
 * Launches code4_wgmma or ggml_wgmma for a product that quantRefusal does not refuse them: once for every 128 rows. Where K is
 * split, the parts' sums lie in memory of the stream's pool until a second launch has added them up.
 */
export function launchWgmma(
  stream: Stream,
  p: QuantMatmulParams,
  values: ArgValues<typeof quantArgs>,
  choice: WgmmaBlock,
): void {
  const outBytes = (p.outDtype ?? p.dtype).bytes;
  const paired = p.out % BigInt(2 * outBytes) === 0n && values.ldd % 2n === 0n;
  const flags = values.flags | (paired ? matmulFlags.pairedD : 0);
  for (let row = 0; row < p.m; row += wgmmaRows) {
    const m = Math.min(wgmmaRows, p.m - row);
    const x = ptrAdd(p.x, row * (p.ldx ?? p.k) * p.dtype.bytes);
    const residual = p.residual && ptrAdd(p.residual, row * Number(values.ldr) * outBytes);
    const out = ptrAdd(p.out, row * Number(values.ldd) * outBytes);
    launchRows(stream, { ...p, x, m }, { ...values, flags, m, a: x, out, ...(residual && { residual }) }, choice);
  }
}

function launchRows(
  stream: Stream,
  p: QuantMatmulParams,
  values: ArgValues<typeof quantArgs>,
  { rows, splits, xStages, wStages, sharedBytes }: WgmmaBlock,
): void {
  const dtype = p.dtype.short === "bf16" ? "bf16" : "f16";
  const weightRows = p.gate ? 2 * p.n : p.n;
  using parts = splits > 1 ? stream.device.allocate(splits * p.m * weightRows * float32.bytes) : undefined;
  const shape = { grid: [Math.ceil(weightRows / gemmTile), splits] as const, block: wgmmaThreads, sharedBytes };
  const args = { ...encodeOperands(stream, p), ...values, parts: parts?.ptr ?? nullPtr, xStages, wStages };
  const options = { overlap: p.overlap === true };
  if (p.weight.kind === "code4") {
    launch(stream, code4WgmmaKernel, { dtype, rows: rows === 64 ? "64" : "128" }, shape, args, options);
  } else {
    const format = p.weight.type as (typeof ggmlWgmmaKernel.axes.format)[number];
    launch(stream, ggmlWgmmaKernel, { format, dtype }, shape, args, options);
  }
  if (parts) combineParts(stream, dtype, { ...args, splits }, 1 / values.levelScale);
}

/**
 * Maps of x, in boxes of 64 rows and 64 elements, and of W's bytes: a tile's rows of a span; with a gate eight rows of both planes,
 * gates before ups.
 */
function encodeOperands({ device }: Stream, { x, weight, m, n, k, dtype, ldx = k, gate }: QuantMatmulParams) {
  const code4 = weight.kind === "code4";
  const { width } = wgmmaBoxes[code4 ? "code4" : weight.type]!;
  const { blockElements, blockBytes } = code4 ? { blockElements: 2, blockBytes: 1 } : ggmlType(weight.type);
  const rowBytes = (k / blockElements) * blockBytes;
  const planes = gate ? 2 : 1;
  const [a, b] = mapBlocks(device.api);
  device.makeCurrent();
  device.api.encodeTensorMap(a.block, {
    address: x,
    element: dtype.short === "bf16" ? "bf16" : "f16",
    dims: [k, m],
    strideBytes: [(m === 1 ? k : ldx) * 2],
    box: [64, 64],
    swizzle: 128,
  });
  device.api.encodeTensorMap(b.block, {
    address: code4 ? weight.packed : weight.blocks,
    element: "u8",
    dims: [rowBytes, n, planes],
    strideBytes: [rowBytes, rowBytes * n],
    box: [width, gate ? 8 : gemmTile, planes],
    swizzle: code4 ? 128 : 0,
  });
  return { xMap: a.bytes, wMap: b.bytes };
}
