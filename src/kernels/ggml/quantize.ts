import type { DevicePtr } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";
import { gridStrideBlocks } from "../grid.ts";
import { launch } from "../library.ts";
import { defineKernel } from "../spec.ts";
import type { GgmlFormat } from "./ggml.ts";

/** The types that are quantized on the device; the older ones are, on the host. */
export const kFormats = ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k"] as const satisfies readonly GgmlFormat[];
export type KFormat = (typeof kFormats)[number];

export const ggmlQuantizeKernel = defineKernel({
  family: "ggml_quantize",
  source: "ggml/ggml-quantize.cu",
  args: { out: "ptr", x: "ptr", blocks: "i64" },
  axes: { type: kFormats },
  targets: ["sm_60"],
});

const blockValues = 256;
/** What a warp takes at a time: 32 groups of 32 or 16 values. */
const valuesPerWarp: Readonly<Record<KFormat, number>> = { q2_k: 512, q3_k: 512, q4_k: 1024, q5_k: 1024, q6_k: 512 };

export interface GgmlQuantizeArgs {
  /** [count / 256] blocks of the type; on 2 bytes. */
  readonly out: DevicePtr;
  /** f32 [count], on 16 bytes. */
  readonly x: DevicePtr;
  /** A multiple of 256. */
  readonly count: number;
  readonly type: KFormat;
}

/**
 * Quantizes to a K type, with the bytes that llama.cpp's reference gives without an importance matrix, on every device. A block with a
 * value that is not finite gets NaN for its d.
 */
export function quantizeGgmlK(stream: Stream, { out, x, count, type }: GgmlQuantizeArgs): void {
  if (count === 0) return;
  const threads = 128;
  const warps = Math.ceil(count / valuesPerWarp[type]);
  launch(
    stream,
    ggmlQuantizeKernel,
    { type },
    { grid: [gridStrideBlocks(stream.device, warps * 32, threads)], block: threads },
    { out, x, blocks: BigInt(count / blockValues) },
  );
}
