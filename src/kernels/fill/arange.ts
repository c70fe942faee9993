import type { DType } from "../../base/dtype.ts";
import type { DevicePtr } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";
import { dtypeCode } from "../dtype-code.ts";
import { gridStrideBlocks } from "../grid.ts";
import { launch } from "../library.ts";
import { defineKernel } from "../spec.ts";

export const arangeKernel = defineKernel({
  family: "arange",
  source: "fill/arange.cu",
  args: { out: "ptr", start: "i64", step: "i64", count: "i64", dtype: "i32" },
  axes: {},
  targets: ["sm_60", "sm_80"],
});

export interface ArangeArgs {
  readonly out: DevicePtr;
  readonly start: number;
  readonly step: number;
  readonly count: number;
  readonly dtype: DType;
}

/** out[i] = start + i * step; computed in float64 for floating types (one rounding to float32), in int64 for the others. */
export function arange(stream: Stream, p: ArangeArgs): void {
  if (p.count === 0) return;
  const bits = p.dtype.isFloat ? doubleBits : (value: number) => BigInt(Math.trunc(value));
  launch(
    stream,
    arangeKernel,
    {},
    { grid: [gridStrideBlocks(stream.device, p.count, 256)], block: 256 },
    {
      out: p.out,
      start: bits(p.start),
      step: bits(p.step),
      count: BigInt(p.count),
      dtype: dtypeCode(p.dtype),
    },
  );
}

function doubleBits(value: number): bigint {
  return new BigInt64Array(Float64Array.of(value).buffer)[0]!;
}
