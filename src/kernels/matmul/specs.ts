import { type ArgSpec, defineKernel } from "../spec.ts";

/** MATMUL_PARAMETERS of matmul.cuh: the same for every kernel here. */
const args = {
  out: "ptr",
  a: "ptr",
  b: "ptr",
  bias: "ptr",
  residual: "ptr",
  m: "i32",
  n: "i32",
  k: "i32",
  flags: "u32",
  lda: "i64",
  ldb: "i64",
  ldd: "i64",
  ldr: "i64",
  strideA: "i64",
  strideB: "i64",
  strideD: "i64",
  strideR: "i64",
  alpha: "f32",
  beta: "f32",
} as const satisfies ArgSpec;

/** `Flags` of matmul.cuh. */
export const matmulFlags = {
  transposeA: 1,
  transposeB: 2,
  outFloat: 4,
  vectorA: 8,
  vectorB: 16,
  gateSilu: 32,
  gateGelu: 64,
  pairedD: 128,
} as const;

/** sm_90 may overlap the launch before; nothing else in it depends on the target. */
export const gemvKernel = defineKernel({
  family: "gemv",
  source: "matmul/gemv.cu",
  args,
  axes: { dtype: ["f32", "f16", "bf16"], rows: ["1", "2", "4", "8"] },
  targets: ["sm_60", "sm_90"],
});

export const gemvMmaKernel = defineKernel({
  family: "gemv_mma",
  source: "matmul/gemv-mma.cu",
  args,
  axes: { dtype: ["f16", "bf16"], rows: ["8", "16"], tile: ["32", "16", "deep"] },
  targets: ({ tile }) => (tile === "16" ? ["sm_80", "sm_90"] : ["sm_90"]),
});

/**
 * Rows of W that a block of gemv-mma.cuh has in hand: 32, or 16; `deep` is 16 with a longer ring. 32 and deep only where a block
 * may have their shared memory.
 */
export type GemvMmaTile = "32" | "16" | "deep";
export const gemvMmaTiles: readonly GemvMmaTile[] = ["32", "16", "deep"];

/** Constants of gemv-mma.cuh: 256 threads, and per tile how many blocks stay on a multiprocessor. */
export const gemvMmaThreads = 256;
export const gemvMmaResident: Readonly<Record<GemvMmaTile, number>> = { 32: 1, 16: 2, deep: 1 };
export const gemvMmaTileRows: Readonly<Record<GemvMmaTile, number>> = { 32: 32, 16: 16, deep: 16 };
const gemvMmaStages = { 32: { 8: 4, 16: 4 }, 16: { 8: 3, 16: 2 }, deep: { 8: 5, 16: 4 } } as const;

/** Shared memory of a block: eight rings of items, each 128 bytes of every row of W and x, and the sums of eight warps. */
export function gemvMmaSharedBytes(tile: GemvMmaTile, rows: "8" | "16"): number {
  const tileRows = gemvMmaTileRows[tile];
  const items = gemvMmaStages[tile][rows] * (tileRows + Number(rows)) * 128;
  return 8 * (items + Number(rows) * (tileRows + 4) * 4);
}

export const simtKernel = defineKernel({
  family: "gemm_simt",
  source: "matmul/gemm-simt.cu",
  args,
  axes: { dtype: ["f32", "f16", "bf16"], tile: ["t128", "t64", "t32"] },
  targets: ["sm_60"],
});

export const wmmaKernel = defineKernel({
  family: "gemm_wmma",
  source: "matmul/gemm-wmma.cu",
  args,
  axes: { dtype: ["f16"], b: ["nk", "kn"], tile: ["t128", "t64"] },
  targets: ["sm_70"],
});

export const mmaKernel = defineKernel({
  family: "gemm_mma",
  source: "matmul/gemm-mma.cu",
  args,
  axes: {
    dtype: ["f16", "bf16"],
    b: ["nk", "kn"],
    tile: ["t128x256", "t128x128", "t64x64", "t64x32", "t32x64", "t32x32"],
  },
  prune: ({ b, tile }) =>
    b === "kn" && tile !== "t128x128" && tile !== "t64x64"
      ? "weights are [N, K]; a B that is [K, N] has two general tiles"
      : undefined,
  targets: ["sm_80"],
});

/** The sums of a product whose K was split among blocks, and their epilogue. */
export const combineKernel = defineKernel({
  family: "matmul_combine",
  source: "matmul/combine.cu",
  args: {
    out: "ptr",
    parts: "ptr",
    bias: "ptr",
    residual: "ptr",
    m: "i32",
    n: "i32",
    splits: "i32",
    flags: "u32",
    ldd: "i64",
    ldr: "i64",
    alpha: "f32",
    beta: "f32",
  },
  axes: { dtype: ["f16", "bf16"] },
  targets: ({ dtype }) => (dtype === "f16" ? ["sm_70"] : ["sm_80"]),
});

export type SimtTile = "t128" | "t64" | "t32";
export type WmmaTile = "t128" | "t64";
export type MmaTile = "t128x256" | "t128x128" | "t64x64" | "t64x32" | "t32x64" | "t32x32";

/** `Tile` of gemm-mma.cuh: 64 elements of K a stage. `rate` is relative to the largest tile, for choosing among them. */
export const mmaTiles: Readonly<
  Record<MmaTile, { rows: number; cols: number; stages: number; threads: number; rate: number }>
> = {
  t128x256: { rows: 128, cols: 256, stages: 3, threads: 256, rate: 1 },
  t128x128: { rows: 128, cols: 128, stages: 3, threads: 128, rate: 0.95 },
  t64x64: { rows: 64, cols: 64, stages: 4, threads: 128, rate: 0.6 },
  t64x32: { rows: 64, cols: 32, stages: 6, threads: 128, rate: 0.4 },
  t32x64: { rows: 32, cols: 64, stages: 6, threads: 128, rate: 0.4 },
  t32x32: { rows: 32, cols: 32, stages: 8, threads: 128, rate: 0.25 },
};

export function mmaSharedBytes(tile: MmaTile): number {
  const { rows, cols, stages } = mmaTiles[tile];
  return stages * (rows + cols) * 64 * 2;
}

/** Square tiles of gemm-simt.cuh and gemm-wmma.cu. */
export const simtTiles: Readonly<Record<SimtTile, { size: number; threads: number; rate: number }>> = {
  t128: { size: 128, threads: 256, rate: 1 },
  t64: { size: 64, threads: 256, rate: 0.7 },
  t32: { size: 32, threads: 64, rate: 0.35 },
};
export const wmmaTiles: Readonly<Record<WmmaTile, { size: number; threads: number; rate: number }>> = {
  t128: { size: 128, threads: 256, rate: 1 },
  t64: { size: 64, threads: 128, rate: 0.6 },
};
