import {
  type GemvMmaTile,
  gemvMmaSharedBytes,
  type MmaTile,
  mmaSharedBytes,
  mmaTiles,
  type SimtTile,
  simtTiles,
} from "../matmul/specs.ts";

/** What the choice of kernels for a layer of experts depends on. */
export interface ExpertsShape {
  /** T, k and E. */
  readonly tokens: number;
  readonly chosen: number;
  readonly experts: number;
  readonly dtype: "f32" | "f16" | "bf16";
  /** Every row of the input, of the intermediate and of the weights starts on 16 bytes. */
  readonly vector: boolean;
  /** Of quantized weights: whether all can be multiplied as they are stored, with few rows. Default: none is quantized. */
  readonly quantized?: "multiplied" | "dequantized";
}

export interface ExpertsMachine {
  /** Of the newest PTX target that may be used, times ten. */
  readonly capability: number;
  readonly multiprocessors: number;
  /** The most shared memory that a block may ask for. */
  readonly sharedBytes: number;
}

/** The kernels of grouped products that have tiles for `mma`; those of `simt` are all. */
export type GroupedMmaTile = Extract<MmaTile, "t128x128" | "t64x64">;

/** A kernel for both products of a layer, and the most rows that one of its groups has: they share one table of groups. */
export type GroupedPlan = { readonly groupRows: number } & (
  | { readonly kernel: "gemv"; readonly rows: "1" | "8" }
  | { readonly kernel: "gemv_mma"; readonly rows: "8" | "16" }
  | { readonly kernel: "simt"; readonly tile: SimtTile }
  | { readonly kernel: "mma"; readonly tile: GroupedMmaTile }
);
export type GroupedKernelName = GroupedPlan["kernel"];

/**
 * Rows of an expert, on average, up to which its weight's bytes are what takes time: the kernels for few rows then read it
 * once, or from L2 a second time. Every batch that a decode step may have is below it, at the usual ratios of E to k.
 */
const fewRows = { gemv: 8, gemv_mma: 16 } as const;
/** Of quantized weights on the tensor cores: beyond it takes longer to decode them for every group than once to memory. */
const fewQuantizedRows = 32;

/** The most bytes of groups and slots for which a block of `gemv_mma` has room: of 99 KB, the ring for 16 rows takes 74. */
const stagedBytes = 24 * 1024;

/** Pure. docs/kernels/moe.md gives the reasons. */
export function planExperts(s: ExpertsShape, on: ExpertsMachine): GroupedPlan {
  const average = (s.tokens * s.chosen) / s.experts;
  const tensorCores = s.dtype !== "f32" && s.vector && on.capability >= 80;
  const fits = stagedTableBytes(s.tokens * s.chosen, s.experts, 16) <= stagedBytes;
  const few = average <= fewRows[tensorCores ? "gemv_mma" : "gemv"] && (!tensorCores || fits);
  // Weights in blocks have kernels for up to 8 rows; what must be dequantized first is a product of many rows, however few.
  if (s.quantized === "multiplied") {
    if (tensorCores && average <= fewQuantizedRows) return gemvMma("8");
    if (few) return gemv(s.tokens === 1 ? "1" : "8");
  }
  if (s.quantized && few) return tensorCores ? mma("t64x64") : simt("t32");
  if (tensorCores) {
    if (few) return gemvMma(s.tokens <= 8 ? "8" : "16");
    const large = average > 64 && mmaSharedBytes("t128x128") <= on.sharedBytes;
    return mma(large ? "t128x128" : "t64x64");
  }
  if (few) return gemv(s.tokens === 1 ? "1" : "8");
  return simt(average > 64 ? "t128" : average > 32 ? "t64" : "t32");
}

/** The plan of one kernel that a caller insists on, for tests and benchmarks. */
export function planWithin(kernel: GroupedKernelName, s: Pick<ExpertsShape, "tokens">, tile?: string): GroupedPlan {
  switch (kernel) {
    case "gemv":
      return gemv(s.tokens === 1 ? "1" : "8");
    case "gemv_mma":
      return gemvMma(s.tokens <= 8 ? "8" : "16");
    case "simt":
      return simt((tile as SimtTile | undefined) ?? "t32");
    case "mma":
      return mma((tile as GroupedMmaTile | undefined) ?? "t64x64");
  }
}

const gemv = (rows: "1" | "8"): GroupedPlan => ({ kernel: "gemv", rows, groupRows: Number(rows) });
const gemvMma = (rows: "8" | "16"): GroupedPlan => ({ kernel: "gemv_mma", rows, groupRows: Number(rows) });
const simt = (tile: SimtTile): GroupedPlan => ({ kernel: "simt", tile, groupRows: simtTiles[tile].size });
const mma = (tile: GroupedMmaTile): GroupedPlan => ({ kernel: "mma", tile, groupRows: mmaTiles[tile].rows });

/**
 * The most groups that `slots` rows can make: every expert's last group may hold a single row. Grids and tables are sized
 * by it, because the host does not know how the rows fall.
 */
export function maxGroups(slots: number, experts: number, groupRows: number): number {
  const used = Math.min(slots, experts);
  return Math.min(slots, used + Math.floor((slots - used) / groupRows));
}

/** What a block of `gemv_mma` has in shared memory of a table for `slots` rows, and of their order. */
export function stagedTableBytes(slots: number, experts: number, groupRows: number): number {
  return 16 * (1 + maxGroups(slots, experts, groupRows)) + 4 * slots;
}

/**
 * Rows of the weight in a tile of `gemv_mma`: 32 where a block may have the memory and the groups that are sure to exist
 * have a tile for every other multiprocessor. A row's bits do not depend on it.
 */
export function gemvMmaTile(
  weightRows: number,
  chosen: number,
  rows: "8" | "16",
  on: ExpertsMachine,
  tableBytes = 0,
): Exclude<GemvMmaTile, "deep"> {
  const fits = on.capability >= 90 && gemvMmaSharedBytes("32", rows) + tableBytes <= on.sharedBytes;
  const wide = 2 * chosen * Math.ceil(weightRows / 32) > on.multiprocessors;
  return fits && wide ? "32" : "16";
}
