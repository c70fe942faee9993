import { float32 } from "../../base/dtype.ts";
import { nullPtr } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";
import { type KernelShape, launch } from "../library.ts";
import type { ArgValues } from "../spec.ts";
import type { QuantChoice, QuantShape } from "./choose.ts";
import { formatShape } from "./formats.ts";
import { gemmLayout, gemmRows, gemmThreads, gemmTile, gemmTypes } from "./gemm-layout.ts";
import {
  code4GemmKernel,
  code4WgmmaKernel,
  ggmlGemmKernel,
  type quantArgs,
  quantCombineKernel,
  quantWmmaKernel,
} from "./specs.ts";

/**
 * Launches one of the kernels for many rows. Where it splits K, the parts' sums lie in memory of the stream's pool until a
 * second launch has added them up.
 */
export function launchGemm(
  stream: Stream,
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
  if (choice.kernel === "wmma") {
    launch(stream, quantWmmaKernel, { dtype: "f16" }, shape, { ...args, type, spanBytes });
  } else {
    const { xStages, wStages } = choice;
    const rings = { ...args, passRows, xStages, wStages };
    if (format === "code4") {
      const kernel = choice.kernel === "wgmma" ? code4WgmmaKernel : code4GemmKernel;
      launch(stream, kernel, { format, dtype }, shape, rings);
    } else {
      const { pitch } = gemmLayout(format);
      launch(stream, ggmlGemmKernel, { dtype }, shape, { ...rings, type, spanBytes, pitch });
    }
  }
  if (!parts) return;
  const { out, bias, residual, flags, ldd, ldr } = args;
  // quant-wmma.cu does not scale levels.
  const factor = choice.kernel === "wmma" ? 1 : 1 / args.levelScale;
  const end = { out, parts: parts.ptr, bias, residual, m, n, splits, flags, ldd, ldr, factor };
  launch(stream, quantCombineKernel, { dtype }, { grid: [Math.ceil(n / 256), m], block: 256 }, end);
}
