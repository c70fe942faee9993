import type { MatmulKernelName } from "./params.ts";
import {
  type GemvMmaTile,
  gemvMmaSharedBytes,
  gemvMmaTileRows,
  type MmaTile,
  mmaSharedBytes,
  mmaTiles,
  type SimtTile,
  simtTiles,
  type WmmaTile,
  wmmaTiles,
} from "./specs.ts";

/** What the choice of a kernel depends on. */
export interface MatmulShape {
  readonly m: number;
  /** Columns of D; with a gate, B has twice as many. */
  readonly n: number;
  readonly k: number;
  readonly batch: number;
  readonly dtype: "f32" | "f16" | "bf16";
  readonly transposeA: boolean;
  readonly transposeB: boolean;
  /** Every row of A (of B), as stored, starts on 16 bytes. */
  readonly vectorA: boolean;
  readonly vectorB: boolean;
  readonly gated: boolean;
}

export interface MatmulMachine {
  /** Of the newest PTX target that may be used, times ten. */
  readonly capability: number;
  readonly multiprocessors: number;
  /** The most shared memory that a block may ask for. */
  readonly sharedBytes: number;
  /** Whether these can compute the problem at all. */
  readonly hopper: boolean;
  readonly cublaslt: boolean;
}

export type MatmulChoice =
  | { readonly kernel: "gemv"; readonly rows: "1" | "2" | "4" | "8"; readonly split: number }
  | { readonly kernel: "gemv_mma"; readonly rows: "8" | "16"; readonly tile: GemvMmaTile }
  | { readonly kernel: "simt"; readonly tile: SimtTile }
  | { readonly kernel: "wmma"; readonly tile: WmmaTile }
  | { readonly kernel: "mma"; readonly tile: MmaTile; readonly split: number }
  | { readonly kernel: "hopper" }
  | { readonly kernel: "cublaslt" };

/** Weight rows of a block, and elements of K that one of its warps takes at a time: the constants of gemv.cuh. */
export const gemvColumns = 4;
export const gemvBatch = { f32: 256, f16: 512, bf16: 512 } as const;

/**
 * Rows from which on cuBLASLt is asked first, where tensor cores of our own would be the alternative. Hopper's own kernel keeps up
 * with it to the end of the rows for which it splits K.
 */
const manyRows = { hopper: 129, other: 128 } as const;

/** Why a kernel cannot compute a shape, as the end of a sentence; undefined when it can. */
export function kernelRefusal(kernel: MatmulKernelName, s: MatmulShape, on: MatmulMachine): string | undefined {
  const plain = !s.transposeA && s.transposeB;
  const layout = "it takes A as [M, K] and B as [N, K]";
  const alignment = "rows of A and B must start on 16 bytes";
  switch (kernel) {
    case "simt":
      return undefined;
    case "gemv":
      return s.m > 8 ? "it takes at most 8 rows" : plain ? undefined : layout;
    case "gemv_mma":
      if (s.m > 16) return "it takes at most 16 rows";
      if (!plain) return layout;
      if (s.dtype === "f32") return "it multiplies float16 and bfloat16";
      if (on.capability < 80) return "it needs target sm_80 or newer";
      return s.vectorA && s.vectorB ? undefined : alignment;
    case "wmma":
      if (s.dtype !== "f16") return "it multiplies float16";
      if (on.capability < 70) return "it needs target sm_70 or newer";
      return s.transposeA ? "it takes A as [M, K]" : undefined;
    case "mma":
      if (s.dtype === "f32") return "it multiplies float16 and bfloat16";
      if (on.capability < 80) return "it needs target sm_80 or newer";
      if (s.transposeA) return "it takes A as [M, K]";
      return s.vectorA && s.vectorB ? undefined : alignment;
    case "hopper":
      return on.hopper
        ? undefined
        : "it needs target sm_90a, 16-bit aligned A [M, K] and B [N, K], no batch and no beta";
    case "cublaslt":
      return on.cublaslt ? undefined : "cuBLASLt is not installed, is disabled, or cannot express this product";
  }
}

/** The kernel for a shape. Pure; docs/kernels/matmul.md gives the reasons with numbers. */
export function chooseMatmul(s: MatmulShape, on: MatmulMachine): MatmulChoice {
  const can = (kernel: MatmulKernelName): boolean => kernelRefusal(kernel, s, on) === undefined;
  // Nothing to multiply: the general kernel's loop runs zero times, and its epilogue is the answer.
  if (s.k === 0) return { kernel: "simt", tile: simtTile(s, on) };

  // Few rows: the weight is read once, and only bytes matter.
  if (can("gemv_mma")) return gemvMma(s, on);
  if (can("gemv")) return gemv(s);

  // Many rows: arithmetic matters. cuBLASLt also for what our tensor-core kernels cannot take.
  const tensorCores = can("mma") || can("wmma");
  const many = s.m >= (can("hopper") ? manyRows.hopper : manyRows.other);
  if (on.cublaslt && (many || !tensorCores)) return { kernel: "cublaslt" };
  if (can("hopper")) return { kernel: "hopper" };
  if (can("mma")) return mma(s, on);
  if (can("wmma")) return { kernel: "wmma", tile: wmmaTile(s, on) };
  return { kernel: "simt", tile: simtTile(s, on) };
}

/** The choice within one kernel that the caller insists on. `tile` must be one of its tiles, if given. */
export function chooseWithin(kernel: MatmulKernelName, s: MatmulShape, on: MatmulMachine, tile?: string): MatmulChoice {
  switch (kernel) {
    case "gemv":
      return gemv(s);
    case "gemv_mma": {
      const choice = gemvMma(s, on);
      return tile === undefined ? choice : { ...choice, tile: tile as GemvMmaTile };
    }
    case "simt":
      return { kernel, tile: (tile as SimtTile | undefined) ?? simtTile(s, on) };
    case "wmma":
      return { kernel, tile: (tile as WmmaTile | undefined) ?? wmmaTile(s, on) };
    case "mma":
      return mma(s, on, tile as MmaTile | undefined);
    default:
      return { kernel };
  }
}

function gemv(s: MatmulShape): MatmulChoice {
  const rows = s.m <= 1 ? "1" : s.m <= 2 ? "2" : s.m <= 4 ? "4" : "8";
  return { kernel: "gemv", rows, split: gemvSplit(s) };
}

/**
 * Tiles of 32 rows, or of 16 with a longer ring where that leaves the busiest multiprocessor fewer rows. Where a block may not
 * have that much memory, tiles of 16. A row's bits depend on none of it.
 */
function gemvMma(s: MatmulShape, on: MatmulMachine): MatmulChoice & { kernel: "gemv_mma" } {
  const rows = s.m <= 8 ? "8" : "16";
  const busiest = (tile: GemvMmaTile): number => {
    const height = gemvMmaTileRows[tile];
    return height * Math.ceil(Math.ceil((s.gated ? 2 * s.n : s.n) / height) / on.multiprocessors);
  };
  const tile = busiest("deep") < busiest("32") ? "deep" : "32";
  return { kernel: "gemv_mma", rows, tile: gemvMmaFits(tile, rows, on) ? tile : "16" };
}

export function gemvMmaFits(tile: GemvMmaTile, rows: "8" | "16", on: MatmulMachine): boolean {
  return (tile === "16" || on.capability >= 90) && gemvMmaSharedBytes(tile, rows) <= on.sharedBytes;
}

/**
 * Warps that share a block's rows, each with part of K. From N and K only, or a row's bits would depend on its batch.
 * Always four where K has as many batches: blocks of 128 threads, small enough that the last ones end together.
 */
export function gemvSplit(s: Pick<MatmulShape, "k" | "dtype">): number {
  return Math.max(1, Math.min(4, Math.ceil(s.k / gemvBatch[s.dtype])));
}

/** The tile with which the busiest multiprocessor finishes first: a tile costs its area over its rate. */
function cheapest<T extends string>(
  tiles: readonly { name: T; rows: number; cols: number; rate: number }[],
  s: MatmulShape,
  multiprocessors: number,
): T {
  const columns = s.gated ? 2 * s.n : s.n;
  let best = tiles[0]!.name;
  let bestCost = Number.POSITIVE_INFINITY;
  for (const { name, rows, cols, rate } of tiles) {
    const count = Math.ceil(s.m / rows) * Math.ceil(columns / cols) * s.batch;
    const cost = (Math.ceil(count / multiprocessors) * rows * cols) / rate;
    if (cost < bestCost) {
      best = name;
      bestCost = cost;
    }
  }
  return best;
}

function square<T extends string>(tiles: Readonly<Record<T, { size: number; rate: number }>>) {
  const names = Object.keys(tiles) as T[];
  return names.map((name) => ({ name, rows: tiles[name].size, cols: tiles[name].size, rate: tiles[name].rate }));
}

function simtTile(s: MatmulShape, on: MatmulMachine): SimtTile {
  return cheapest(square(simtTiles), s, on.multiprocessors);
}

function wmmaTile(s: MatmulShape, on: MatmulMachine): WmmaTile {
  return cheapest(square(wmmaTiles), s, on.multiprocessors);
}

function mma(s: MatmulShape, on: MatmulMachine, tile = mmaTile(s, on)): MatmulChoice & { kernel: "mma" } {
  return { kernel: "mma", tile, split: mmaSplit(s, on.multiprocessors) };
}

/** Rows up to which K is split. */
const splitRows = 128;
/** Elements of K that a part has at least, a multiple of a tile's step: so many steps keep its ring full. */
const leastDepth = 8 * 64;

/**
 * Equal parts of K, each computed by blocks of its own, for products of few rows: so many that a weight cut into 64 columns gives
 * about every multiprocessor a block. From B alone, or a row's bits would depend on its batch.
 */
export function mmaSplit(s: MatmulShape, multiprocessors: number): number {
  if (s.m > splitRows || s.batch > 1 || !s.transposeB) return 1;
  const tiles = Math.ceil((s.gated ? 2 * s.n : s.n) / 64);
  let split = 1;
  while (split < 8 && 2 * split * tiles <= 1.25 * multiprocessors && s.k % (2 * split * leastDepth) === 0) split *= 2;
  return split;
}

function mmaTile(s: MatmulShape, on: MatmulMachine): MmaTile {
  // Up to 64 rows B is what takes time. Narrow tiles put more blocks on it; wide ones read A less often, which starts
  // to matter when there are blocks enough either way.
  const wide = (s.gated ? 2 * s.n : s.n) >= 8192;
  if (s.transposeB && s.batch === 1) {
    if (s.m <= 32) return wide ? "t32x64" : "t32x32";
    if (s.m <= 64) return wide ? "t64x64" : "t64x32";
  }
  const fits: MmaTile[] = s.transposeB ? ["t128x256", "t128x128", "t64x64"] : ["t128x128", "t64x64"];
  return cheapest(
    fits.filter((name) => mmaSharedBytes(name) <= on.sharedBytes).map((name) => ({ name, ...mmaTiles[name] })),
    s,
    on.multiprocessors,
  );
}
