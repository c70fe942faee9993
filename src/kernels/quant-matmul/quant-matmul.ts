import { bfloat16, float32 } from "../../base/dtype.ts";
import { UnsupportedError } from "../../base/errors.ts";
import { ggmlBytes, ggmlType } from "../../base/ggml.ts";
import { type DevicePtr, nullPtr, type TensorMapLayout } from "../../driver/api.ts";
import type { Device } from "../../driver/device.ts";
import type { Stream } from "../../driver/stream.ts";
import { floatVariant } from "../float-variant.ts";
import { dequantizeGgml } from "../ggml/ggml.ts";
import { deviceTargets, launch } from "../library.ts";
import { matmul } from "../matmul/matmul.ts";
import { matmulFlags } from "../matmul/specs.ts";
import { code4ArgumentsOf, dequantizeCode4, roundedFirst } from "../nf4/nf4.ts";
import { targetNumber } from "../target.ts";
import { mapBlocks } from "../tensor-map.ts";
import { choiceOf, chooseQuant, type QuantChoice, type QuantMachine, type QuantShape, quantRefusal } from "./choose.ts";
import { launchGemm } from "./gemm.ts";
import { launchGgml } from "./ggml-few.ts";
import { type BulkBlock, type MmaBlock, mmaTile } from "./layout.ts";
import type { QuantData, QuantMatmulParams } from "./params.ts";
import { code4BulkKernel, code4MmaKernel, quantFlags, quantGemvKernel } from "./specs.ts";
import { launchWgmma } from "./wgmma.ts";

export type { QuantData, QuantMatmulParams } from "./params.ts";

/**
 * Computes the product that `p` describes (see QuantMatmulParams) on `stream`, with the kernel that suits its shape, or with
 * `p.kernel`. Where W is dequantized first, the 16-bit (or float32) weight lives in memory of the stream's pool until the
 * product has run. Throws UnsupportedError when the forced kernel cannot.
 */
export function quantMatmul(stream: Stream, p: QuantMatmulParams): void {
  if (p.m === 0 || p.n === 0) return;
  const shape = quantShapeOf(p);
  const choice = choose(stream, p, shape);
  switch (choice.kernel) {
    case "mma":
    case "bulk":
      if ("ggml" in choice) launchGgml(stream, p, quantArguments(p), choice);
      else if (choice.kernel === "mma") launchMma(stream, p, choice);
      else launchBulk(stream, p, choice);
      break;
    case "wgmma":
      launchWgmma(stream, p, quantArguments(p), choice);
      break;
    case "gemm":
    case "wmma":
      launchGemm(stream, shape, choice, quantArguments(p));
      break;
    case "gemv":
      launchGemv(stream, p);
      break;
    case "dequantize":
      dequantizeAndMultiply(stream, p);
      break;
  }
}

/** The kernel that `quantMatmul` would use, for reports and benchmarks. */
export function quantChoice(stream: Stream, p: QuantMatmulParams): QuantChoice {
  return choose(stream, p, quantShapeOf(p));
}

/** What the choice of a kernel depends on. */
export function quantShapeOf(p: QuantMatmulParams): QuantShape {
  const { weight, m, n, k } = p;
  const rowBytes = (p.ldx ?? k) * p.dtype.bytes;
  return {
    m,
    n,
    k,
    gated: p.gate !== undefined,
    dtype: floatVariant("quantMatmul", p.dtype).dtype,
    format: weight.kind === "code4" ? "code4" : weight.type,
    blockSize: weight.kind === "code4" ? weight.blockSize : 0,
    nested: weight.kind === "code4" && weight.nested !== undefined,
    rounded: weight.kind === "code4" && roundedFirst(weight, p.dtype) !== undefined,
    vectorX: (p.x & 15n) === 0n && (m === 1 || rowBytes % 16 === 0),
    alignment: alignmentOf(weight.kind === "code4" ? weight.packed : weight.blocks),
  };
}

/** Bytes, at most 16, of which an address is a multiple. */
function alignmentOf(address: DevicePtr): number {
  const low = Number(address & 15n) || 16;
  return low & -low;
}

/** What the choice wants to know of a device. */
export function quantMachine(device: Device): QuantMachine {
  const { multiprocessors, sharedPerBlockOptin } = device.attributes;
  const targets = deviceTargets(device);
  return {
    capability: targetNumber(targets[0]!),
    hopper: targets.includes("sm_90a"),
    sharedBytes: sharedPerBlockOptin,
    multiprocessors,
  };
}

function choose(stream: Stream, p: QuantMatmulParams, shape: QuantShape): QuantChoice {
  const { device } = stream;
  const machine = quantMachine(device);
  if (p.kernel === undefined) return chooseQuant(shape, machine);
  const reason = quantRefusal(p.kernel, shape, machine);
  if (reason === undefined) return choiceOf(p.kernel, shape, machine);
  throw new UnsupportedError(
    `quantMatmul: the kernel "${p.kernel}" cannot compute a ${shape.dtype} product of M = ${shape.m}, N = ${shape.n}, K = ${shape.k} with ${shape.format} on ${device.name}: ${reason}`,
  );
}

/** Bytes of W as stored. */
function weightBytes({ weight, n, k, gate }: QuantMatmulParams, experts: number): number {
  const elements = experts * (gate ? 2 * n : n) * k;
  return weight.kind === "code4" ? Math.ceil(elements / 2) : ggmlBytes(ggmlType(weight.type), elements);
}

/** The arguments behind QUANT_PARAMETERS; with `experts`, W is that many weights one after the other. */
export function quantArguments(p: QuantMatmulParams, experts = 1) {
  const { weight, n, k } = p;
  const f = matmulFlags;
  const outDtype = p.outDtype ?? p.dtype;
  const ldd = p.ldd ?? n;
  const codes = weight.kind === "code4" ? code4ArgumentsOf(weight) : noCodes;
  const first = weight.kind === "code4" ? roundedFirst(weight, p.dtype) : undefined;
  const scales = weight.kind === "code4" && !first ? weight.levelScale : undefined;
  return {
    out: p.out,
    a: p.x,
    weight: weight.kind === "code4" ? weight.packed : weight.blocks,
    ...codes,
    bias: p.bias ?? nullPtr,
    residual: p.residual ?? nullPtr,
    m: p.m,
    n,
    k,
    flags:
      (outDtype === float32 ? f.outFloat : 0) |
      (quantShapeOf(p).vectorX ? f.vectorA : 0) |
      (p.gate === "silu" ? f.gateSilu : p.gate === "gelu" ? f.gateGelu : 0) |
      (first ? (first === bfloat16 ? quantFlags.valuesBf16 : quantFlags.valuesF16) : 0),
    lda: BigInt(p.ldx ?? k),
    ldd: BigInt(ldd),
    ldr: BigInt(p.ldResidual ?? ldd),
    weightBytes: BigInt(weightBytes(p, experts)),
    levelScale: (p.dtype.short === "bf16" ? scales?.bf16 : scales?.f16) ?? 1,
  };
}

/** GGML blocks carry their scales themselves. */
const noCodes = {
  absmax: nullPtr,
  code: nullPtr,
  nestedAbsmax: nullPtr,
  nestedCode: nullPtr,
  nestedOffset: 0,
  blockShift: 0,
} as const;

function launchMma(stream: Stream, p: QuantMatmulParams, choice: MmaBlock & { rows: "8" | "16" }): void {
  const { rounded, dtype } = quantShapeOf(p);
  const { warps, slices, rows, sharedBytes, xRow } = choice;
  const tiles = Math.ceil((p.gate ? 2 * p.n : p.n) / mmaTile);
  launch(
    stream,
    code4MmaKernel,
    { format: rounded ? "code4_rounded" : "code4", dtype: dtype === "bf16" ? "bf16" : "f16", rows },
    { grid: [Math.min(tiles, stream.device.attributes.multiprocessors)], block: 32 * warps, sharedBytes },
    { ...quantArguments(p), slices, xBytes: xRow },
    { overlap: p.overlap === true },
  );
}

function launchBulk(stream: Stream, p: QuantMatmulParams, choice: BulkBlock & { rows: "8" | "16" }): void {
  const { device } = stream;
  const { rounded, dtype: float } = quantShapeOf(p);
  const { warps, slices, parts, blocks, together, resident, rows, sharedBytes } = choice;
  const args = quantArguments(p);
  const [codes, absmax] = mapBlocks(device.api);
  // Gate and up are two planes, so that one box holds the rows of both that belong to the same columns of D.
  const planes = p.gate ? 2 : 1;
  const boxes = (address: DevicePtr, element: "u8" | "f32", columns: number): TensorMapLayout => {
    const bytes = element === "f32" ? 4 : 1;
    return {
      address,
      element,
      dims: [columns, p.n, planes],
      strideBytes: [columns * bytes, columns * bytes * p.n],
      box: [128 / bytes, mmaTile / planes, planes],
      swizzle: 128,
    };
  };
  device.makeCurrent();
  device.api.encodeTensorMap(codes.block, boxes(args.weight, "u8", p.k / 2));
  // Other absmax is not loaded by bulk copies, and whatever this map says then is not looked at.
  if (args.nestedAbsmax === nullPtr && args.blockShift === 6) {
    device.api.encodeTensorMap(absmax.block, boxes(args.absmax, "f32", p.k / 64));
  }
  launch(
    stream,
    code4BulkKernel,
    { format: rounded ? "code4_rounded" : "code4", dtype: float === "bf16" ? "bf16" : "f16", rows },
    { grid: [blocks], block: 32 * warps, sharedBytes },
    { codes: codes.bytes, absmaxMap: absmax.bytes, ...args, slices, parts, together, resident },
    { overlap: p.overlap === true },
  );
}

/** W is one weight, and its rows of x lie one after the other. */
const ungrouped = { order: nullPtr, table: nullPtr, share: 1 } as const;

function launchGemv(stream: Stream, p: QuantMatmulParams): void {
  const { format, dtype } = quantShapeOf(p);
  const shape = { grid: [Math.ceil(p.n / 4)], block: 128 } as const;
  launch(stream, quantGemvKernel, { format, dtype }, shape, { ...quantArguments(p), ...ungrouped });
}

function dequantizeAndMultiply(stream: Stream, p: QuantMatmulParams): void {
  const rows = p.gate ? 2 * p.n : p.n;
  using workspace = stream.device.allocate(Math.max(16, rows * p.k * p.dtype.bytes));
  dequantizeWeight(stream, p.weight, { out: workspace.ptr, rows, k: p.k, dtype: p.dtype });
  const { weight: _, x, kernel: __, ldx, overlap: ___, ...rest } = p;
  matmul(stream, { ...rest, a: x, b: workspace.ptr, transposeB: true, ...(ldx === undefined ? {} : { lda: ldx }) });
}

/** W [rows, K] as `dtype`, rounded once from float32 (of 4-bit codes, first as Code4Data.valueDType says). out: on 32 bytes. */
export function dequantizeWeight(
  stream: Stream,
  weight: QuantData,
  p: { out: DevicePtr; rows: number; k: number; dtype: QuantMatmulParams["dtype"] },
): void {
  const { out, rows, k, dtype } = p;
  const count = rows * k;
  if (weight.kind === "ggml") {
    dequantizeGgml(stream, { out, blocks: weight.blocks, type: weight.type, n: rows, cols: k, dtype });
  } else {
    dequantizeCode4(stream, weight, { out, count, dtype });
  }
}
