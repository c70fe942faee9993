import { float32 } from "../../base/dtype.ts";
import { nullPtr } from "../../driver/api.ts";
import type { Device } from "../../driver/device.ts";
import type { Stream } from "../../driver/stream.ts";
import { type KernelShape, launch } from "../library.ts";
import { combineKernel } from "../matmul/specs.ts";
import type { ArgValues } from "../spec.ts";
import { mapBlocks } from "../tensor-map.ts";
import type { QuantChoice, QuantShape } from "./choose.ts";
import { formatShape } from "./formats.ts";
import { gemmLayout, gemmRows, gemmThreads, gemmTile, gemmTypes } from "./gemm-layout.ts";
import type { QuantMatmulParams } from "./params.ts";
import { code4GemmKernel, code4WgmmaKernel, ggmlGemmKernel, type quantArgs, quantWmmaKernel } from "./specs.ts";

/**
 * Launches one of the kernels for many rows. Where it splits K, the parts' sums lie in memory of the stream's pool until a
 * second launch has added them up.
 */
export function launchGemm(
  stream: Stream,
  p: QuantMatmulParams,
  s: QuantShape,
  choice: QuantChoice & { kernel: "gemm" | "wgmma" | "wmma" },
  quant: ArgValues<typeof quantArgs>,
): void {
  const { m, n, format } = s;
  const dtype = s.dtype === "bf16" ? "bf16" : "f16";
  const { splits } = choice;
  const rows = s.gated ? 2 * n : n;
  const passRows = choice.kernel === "wmma" ? gemmRows : choice.passRows;
  const shape: KernelShape = {
    grid: [Math.ceil(rows / gemmTile) * Math.ceil(m / passRows), splits],
    block: gemmThreads[choice.kernel],
    sharedBytes: choice.kernel === "wmma" ? 0 : choice.sharedBytes,
  };
  using parts = splits > 1 ? stream.device.allocate(splits * m * rows * float32.bytes) : undefined;
  const args = { ...quant, parts: parts?.ptr ?? nullPtr, splits };
  const type = gemmTypes.indexOf(format);
  const { spanBytes } = formatShape(format);
  switch (choice.kernel) {
    case "wmma":
      launch(stream, quantWmmaKernel, { dtype: "f16" }, shape, { ...args, type, spanBytes });
      break;
    case "wgmma": {
      const { xStages, wStages } = choice;
      const overlap = p.overlap === true;
      const maps = encodeOperands(stream.device, p, rows);
      launch(stream, code4WgmmaKernel, { dtype }, shape, { ...maps, ...args, xStages, wStages }, { overlap });
      break;
    }
    case "gemm": {
      const { xStages, wStages } = choice;
      const rings = { ...args, passRows, xStages, wStages };
      const { pitch } = gemmLayout(format);
      if (format === "code4") launch(stream, code4GemmKernel, { format, dtype }, shape, rings);
      else launch(stream, ggmlGemmKernel, { dtype }, shape, { ...rings, type, spanBytes, pitch });
    }
  }
  if (!parts) return;
  const { out, bias, residual, flags, ldd, ldr } = args;
  // quant-wmma.cu does not scale levels.
  const alpha = choice.kernel === "wmma" ? 1 : 1 / args.levelScale;
  const end = { out, parts: parts.ptr, bias, residual, m, n, splits, flags, ldd, ldr, alpha, beta: 0 };
  launch(stream, combineKernel, { dtype }, { grid: [Math.ceil(n / 256), m], block: 256 }, end);
}

/** Maps of x, in boxes of 64 rows and 64 elements, and of W's bytes, in boxes of 16 rows and 256 elements: 128 bytes wide. */
function encodeOperands(device: Device, { x, weight, m, k, dtype, ldx = k }: QuantMatmulParams, rows: number) {
  const element = dtype.short === "bf16" ? "bf16" : "f16";
  const codes = weight.kind === "code4" ? weight.packed : weight.blocks;
  const [a, b] = mapBlocks(device.api);
  const xBox = { dims: [k, m], strideBytes: [(m === 1 ? k : ldx) * 2], box: [64, gemmRows] };
  const wBox = { dims: [k / 2, rows], strideBytes: [k / 2], box: [128, 16] };
  device.makeCurrent();
  device.api.encodeTensorMap(a.block, { address: x, element, ...xBox, swizzle: 128 });
  device.api.encodeTensorMap(b.block, { address: codes, element: "u8", ...wBox, swizzle: 128 });
  return { xMap: a.bytes, wMap: b.bytes };
}
