import { type DType, int32 } from "../../src/base/dtype.ts";
import type { DevicePtr } from "../../src/driver/api.ts";
import type { Device } from "../../src/driver/device.ts";
import { type SamplingArgs, sample, samplingWorkspaceBytes } from "../../src/kernels/sampling/sampling.ts";
import type { Filters } from "../reference/sampling.ts";
import { allocate, output, poison, upload } from "../support/gpu.ts";

export interface Row extends Filters {
  readonly seed: bigint;
  readonly step: number;
}

export const unfiltered: Filters = { temperature: 1, topK: 0, topP: 1, minP: 0 };

/** Device arrays of per-row parameters. */
export function uploadRows(device: Device, rows: readonly Row[]) {
  return {
    rows: rows.length,
    temperature: upload(
      device,
      Float32Array.from(rows, (r) => r.temperature),
    ),
    topK: upload(
      device,
      Int32Array.from(rows, (r) => r.topK),
    ),
    topP: upload(
      device,
      Float32Array.from(rows, (r) => r.topP),
    ),
    minP: upload(
      device,
      Float32Array.from(rows, (r) => r.minP),
    ),
    seeds: upload(
      device,
      BigUint64Array.from(rows, (r) => r.seed),
    ),
    steps: upload(
      device,
      Uint32Array.from(rows, (r) => r.step),
    ),
  };
}

/** Samples once, with a workspace full of garbage, and returns the tokens. */
export function sampleRows(
  device: Device,
  logits: DevicePtr,
  vocab: number,
  dtype: DType,
  rows: readonly Row[],
  options: Partial<Pick<SamplingArgs, "logitsStride" | "greedyOnly">> = {},
): number[] {
  const bytes = samplingWorkspaceBytes(rows.length, vocab);
  const workspace = allocate(device, bytes);
  poison(device, workspace, bytes);
  const tokens = output(device, int32, rows.length);
  sample(device.stream, {
    logits,
    vocab,
    dtype,
    workspace,
    tokens: tokens.ptr,
    ...uploadRows(device, rows),
    ...options,
  });
  return Array.from(tokens.numbers());
}
