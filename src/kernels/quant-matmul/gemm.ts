import { float32 } from "../../base/dtype.ts";
import { type DevicePtr, nullPtr } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";
import { type KernelShape, launch } from "../library.ts";
import { combineKernel } from "../matmul/specs.ts";
import type { ArgValues } from "../spec.ts";
import type { QuantChoice, QuantShape } from "./choose.ts";
import { formatShape } from "./formats.ts";
import { gemmLayout, gemmRows, gemmThreads, gemmTile, gemmTypes } from "./gemm-layout.ts";
import { code4GemmKernel, ggmlGemmKernel, type quantArgs, quantWmmaKernel } from "./specs.ts";

/**
 * Launches one of the kernels for many rows. Where it splits K, the parts' sums lie in memory of the stream's pool until a
 * second launch has added them up.
 */
export function launchGemm(
  stream: Stream,
  s: QuantShape,
  choice: QuantChoice & { kernel: "gemm" | "wmma" },
  quant: ArgValues<typeof quantArgs>,
): void {
  const { m, n, format } = s;
  const dtype = s.dtype === "bf16" ? "bf16" : "f16";
  const { splits } = choice;
  const rows = s.gated ? 2 * n : n;
  const blocks = (passRows: number) => [Math.ceil(rows / gemmTile) * Math.ceil(m / passRows), splits] as const;
  using parts = splits > 1 ? stream.device.allocate(splits * m * rows * float32.bytes) : undefined;
  const args = { ...quant, parts: parts?.ptr ?? nullPtr, splits };
  const type = gemmTypes.indexOf(format);
  const { spanBytes } = formatShape(format);
  switch (choice.kernel) {
    case "wmma": {
      const shape: KernelShape = { grid: blocks(gemmRows), block: gemmThreads.wmma };
      launch(stream, quantWmmaKernel, { dtype: "f16" }, shape, { ...args, type, spanBytes });
      break;
    }
    case "gemm": {
      const { passRows, xStages, wStages, sharedBytes } = choice;
      const shape: KernelShape = { grid: blocks(passRows), block: gemmThreads.gemm, sharedBytes };
      const rings = { ...args, passRows, xStages, wStages };
      const { pitch } = gemmLayout(format);
      if (format === "code4") launch(stream, code4GemmKernel, { format, dtype }, shape, rings);
      else launch(stream, ggmlGemmKernel, { dtype }, shape, { ...rings, type, spanBytes, pitch });
    }
  }
  // quant-wmma.cu does not scale levels.
  if (parts) combineParts(stream, dtype, args, choice.kernel === "wmma" ? 1 : 1 / args.levelScale);
}

/** Adds up the parts of a product whose K was split, and finishes it: the launch waits for them itself. */
export function combineParts(
  stream: Stream,
  dtype: "f16" | "bf16",
  args: ArgValues<typeof quantArgs> & { readonly parts: DevicePtr; readonly splits: number },
  alpha: number,
): void {
  const { out, parts, bias, residual, m, n, splits, flags, ldd, ldr } = args;
  const end = { out, parts, bias, residual, m, n, splits, flags, ldd, ldr, alpha, beta: 0 };
  launch(stream, combineKernel, { dtype }, { grid: [Math.ceil(n / 256), m], block: 256 }, end, { overlap: true });
}
