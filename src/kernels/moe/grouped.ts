import { type DType, float32 } from "../../base/dtype.ts";
import type { DevicePtr } from "../../driver/api.ts";
import type { Device } from "../../driver/device.ts";
import type { Stream } from "../../driver/stream.ts";
import { floatVariant } from "../float-variant.ts";
import { deviceTargets, type KernelShape, launch } from "../library.ts";
import { gemvColumns, gemvSplit } from "../matmul/choose.ts";
import type { MatmulParams } from "../matmul/params.ts";
import {
  gemvMmaResident,
  gemvMmaSharedBytes,
  gemvMmaThreads,
  matmulFlags,
  mmaSharedBytes,
  mmaTiles,
  simtTiles,
} from "../matmul/specs.ts";
import { type ArgSpec, defineKernel } from "../spec.ts";
import { targetNumber } from "../target.ts";
import { type ExpertsMachine, type GroupedPlan, gemvMmaTile, maxGroups, stagedTableBytes } from "./plan.ts";

/** GROUPED_PARAMETERS of grouped.cuh. */
const args = {
  out: "ptr",
  a: "ptr",
  b: "ptr",
  order: "ptr",
  table: "ptr",
  expertStride: "i64",
  n: "i32",
  k: "i32",
  share: "i32",
  flags: "u32",
  firstExpert: "i32",
  endExpert: "i32",
} as const satisfies ArgSpec;

export const groupedGemvKernel = defineKernel({
  family: "grouped_gemv",
  source: "moe/grouped-gemv.cu",
  args,
  axes: { dtype: ["f32", "f16", "bf16"], rows: ["1", "8"] },
  targets: ["sm_60", "sm_90"],
});

export const groupedGemvMmaKernel = defineKernel({
  family: "grouped_gemv_mma",
  source: "moe/grouped-gemv-mma.cu",
  args: { ...args, groups: "i32", slots: "i32" },
  axes: { dtype: ["f16", "bf16"], rows: ["8", "16"], tile: ["32", "16"] },
  targets: ({ tile }) => (tile === "32" ? ["sm_90"] : ["sm_80", "sm_90"]),
});

export const groupedSimtKernel = defineKernel({
  family: "grouped_simt",
  source: "moe/grouped-simt.cu",
  args,
  axes: { dtype: ["f32", "f16", "bf16"], tile: ["t128", "t64", "t32"] },
  targets: ["sm_60"],
});

export const groupedMmaKernel = defineKernel({
  family: "grouped_mma",
  source: "moe/grouped-mma.cu",
  args,
  axes: { dtype: ["f16", "bf16"], tile: ["t128x128", "t64x64"] },
  targets: ["sm_80"],
});

/** EARLY_TABLE of grouped.cuh. */
export const earlyTable = 256;

/**
 * D[slot, :] = A[⌊slot / share⌋, :] · B[expert of slot]ᵀ for every slot in `order`, each by the expert of its group.
 * Contiguous rows; float32 sums, rounded once. `order` and `table` are routeExperts', with the plan's groupRows.
 */
export interface GroupedProductArgs {
  readonly plan: GroupedPlan;
  /** [S, N] in `outDtype`. */
  readonly out: DevicePtr;
  /** [S / share, K]. */
  readonly a: DevicePtr;
  /**
   * [E, N, K], with `gate` [E, 2N, K]: gate and up projection one after the other. No kernel in flight writes it, except before
   * the products of `mma` and `simt`.
   */
  readonly b: DevicePtr;
  /** The experts whose weights `b` holds: only their rows are multiplied. Default all; not with the plan `gemv_mma`. */
  readonly range?: ExpertRange;
  readonly order: DevicePtr;
  readonly table: DevicePtr;
  /** S = T · k, k and E. */
  readonly slots: number;
  readonly chosen: number;
  readonly experts: number;
  readonly n: number;
  readonly k: number;
  /** Slots that read one row of A: k where A has a row a token, 1 where it has a row a slot. */
  readonly share: number;
  readonly gate?: MatmulParams["gate"];
  readonly dtype: DType;
  /** `dtype` (the default) or float32. */
  readonly outDtype?: DType;
  /** The stream's previous launch is a grouped product with the same table: this one may look at it while that one ends. */
  readonly followsProduct?: boolean;
}

/** Experts `first` … `end - 1`. */
export interface ExpertRange {
  readonly first: number;
  readonly end: number;
}

/** What planExperts wants to know of a device. */
export function expertsMachine(device: Device): ExpertsMachine {
  const { multiprocessors, sharedPerBlockOptin } = device.attributes;
  return { capability: targetNumber(deviceTargets(device)[0]!), multiprocessors, sharedBytes: sharedPerBlockOptin };
}

export function groupedProduct(stream: Stream, p: GroupedProductArgs): void {
  if (p.slots === 0 || p.n === 0) return;
  const { plan } = p;
  const { dtype } = floatVariant("groupedProduct", p.dtype);
  const halves = p.gate ? 2 : 1;
  const groups = maxGroups(p.slots, p.experts, plan.groupRows);
  const values = {
    out: p.out,
    a: p.a,
    b: p.b,
    order: p.order,
    table: p.table,
    expertStride: BigInt(halves * p.n * p.k),
    n: p.n,
    k: p.k,
    share: p.share,
    flags: flagsOf(p),
    firstExpert: p.range?.first ?? 0,
    endExpert: p.range?.end ?? p.experts,
  };
  const tiles = (cols: number): number => groups * Math.ceil(p.n / (cols / halves));
  const options = { overlap: true };
  switch (plan.kernel) {
    case "gemv": {
      const block = 32 * halves * gemvSplit({ k: p.k, dtype });
      const shape: KernelShape = { grid: [Math.ceil(p.n / gemvColumns), groups], block };
      launch(stream, groupedGemvKernel, { dtype, rows: plan.rows }, shape, values, options);
      break;
    }
    case "gemv_mma": {
      const { rows } = plan;
      const machine = expertsMachine(stream.device);
      const tableBytes = stagedTableBytes(p.slots, p.experts, plan.groupRows);
      const tile = gemvMmaTile(halves * p.n, p.chosen, rows, machine, tableBytes);
      const resident = machine.multiprocessors * gemvMmaResident[tile];
      const shape: KernelShape = {
        grid: [Math.min(resident, tiles(Number(tile)))],
        block: gemvMmaThreads,
        sharedBytes: gemvMmaSharedBytes(tile, rows) + tableBytes,
      };
      const variant = { dtype: short16(dtype), rows, tile };
      launch(stream, groupedGemvMmaKernel, variant, shape, { ...values, groups, slots: p.slots }, options);
      break;
    }
    case "simt": {
      const { size, threads } = simtTiles[plan.tile];
      launch(stream, groupedSimtKernel, { dtype, tile: plan.tile }, { grid: [tiles(size)], block: threads }, values);
      break;
    }
    case "mma": {
      const { cols, threads } = mmaTiles[plan.tile];
      const shape: KernelShape = { grid: [tiles(cols)], block: threads, sharedBytes: mmaSharedBytes(plan.tile) };
      launch(stream, groupedMmaKernel, { dtype: short16(dtype), tile: plan.tile }, shape, values);
      break;
    }
  }
}

function flagsOf(p: GroupedProductArgs): number {
  const f = matmulFlags;
  const outDtype = p.outDtype ?? p.dtype;
  const rowsAligned = (p.k * p.dtype.bytes) % 16 === 0;
  const aligned = (address: DevicePtr): boolean => rowsAligned && (address & 15n) === 0n;
  return (
    f.transposeB |
    (aligned(p.a) ? f.vectorA : 0) |
    (aligned(p.b) ? f.vectorB : 0) |
    (outDtype === float32 ? f.outFloat : 0) |
    (p.gate === "silu" ? f.gateSilu : p.gate === "gelu" ? f.gateGelu : 0) |
    (p.out % BigInt(2 * outDtype.bytes) === 0n && p.n % 2 === 0 ? f.pairedD : 0) |
    (p.followsProduct ? earlyTable : 0)
  );
}

/** Plans with tensor cores are never made for float32 (planExperts). */
function short16(dtype: "f32" | "f16" | "bf16"): "f16" | "bf16" {
  return dtype === "bf16" ? "bf16" : "f16";
}
