import { float32 } from "../../base/dtype.ts";
import type { Target } from "../spec.ts";
import type { MatmulParams } from "./params.ts";

/** What a tile shape of hopper.cu takes; the numbers are those of its `Shape` of the same name. */
export interface HopperTile {
  readonly rows: number;
  readonly cols: number;
  readonly stages: number;
  /** Blocks of a cluster: they take tiles one above the other and share B. Such a tile has no parts of K. */
  readonly cluster: number;
}

export const hopperTiles = {
  m128n256: { rows: 128, cols: 256, stages: 4, cluster: 2 },
  m128n128: { rows: 128, cols: 128, stages: 6, cluster: 1 },
  m128n64: { rows: 128, cols: 64, stages: 8, cluster: 1 },
  m64n128: { rows: 64, cols: 128, stages: 8, cluster: 1 },
  m64n64: { rows: 64, cols: 64, stages: 12, cluster: 1 },
} as const satisfies Record<string, HopperTile>;
export type HopperTileName = keyof typeof hopperTiles;

/**
 * Why the Hopper kernel cannot compute `p` on a device that may run `runnable` targets, as the end of a sentence;
 * undefined when it can. The copy engine sets the bounds: it reads rows of A and B that are 16-byte aligned.
 */
export function hopperRefusal(p: MatmulParams, runnable: readonly Target[]): string | undefined {
  const lda = p.lda ?? p.k;
  const ldb = p.ldb ?? p.k;
  if (!runnable.includes("sm_90a")) return "it needs a GPU of capability 9.0 (target sm_90a)";
  if (!p.dtype.isFloat || p.dtype.bytes !== 2) return `it multiplies float16 and bfloat16, not ${p.dtype.name}`;
  if (p.outDtype && p.outDtype !== p.dtype && p.outDtype !== float32) return `it cannot write ${p.outDtype.name}`;
  if (p.transposeA || !p.transposeB) return "it takes A as [M, K] and B as [N, K]";
  if ((p.batch ?? 1) !== 1) return "it computes one product, not a batch";
  if ((p.beta ?? 0) !== 0) return "it does not add to D (beta)";
  if (p.gate && p.residual) return "it adds no residual after a gate";
  if (p.k < 1) return "K is 0";
  if (lda % 8 !== 0 || ldb % 8 !== 0)
    return `rows of A and B must be multiples of 8 elements apart, not ${lda} and ${ldb}`;
  if (p.a % 16n !== 0n || p.b % 16n !== 0n) return "A and B must be 16-byte aligned";
  if (p.tile !== undefined && !(p.tile in hopperTiles))
    return `it has no tile "${p.tile}"; use ${Object.keys(hopperTiles).join(", ")}`;
  if (p.gate && hopperTiles[p.tile as HopperTileName]?.cols < leastGated)
    return `the tile ${p.tile} is too narrow for a gate`;
  if (p.tile === "m128n256" && p.m <= splitRows) return `the tile m128n256 is for more than ${splitRows} rows`;
  return undefined;
}

export function hopperSupports(p: MatmulParams, runnable: readonly Target[]): boolean {
  return hopperRefusal(p, runnable) === undefined;
}

/** Whether the result can leave through the copy engine: 16-bit, aligned rows, and nothing to be read with it. */
export function hopperStoresBulk(p: MatmulParams): boolean {
  return p.outDtype !== float32 && !p.residual && (p.ldd ?? p.n) % 8 === 0 && p.out % 16n === 0n;
}

/** What parts and tiles are chosen by. With a gate, B has 2n rows. */
export interface HopperShape {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly gated: boolean;
}

/** Columns of D that a tile covers: with a gate, half of its columns of B belong to the other matrix. */
export function hopperTileWidth(tile: HopperTile, gated: boolean): number {
  return gated ? tile.cols / 2 : tile.cols;
}

/** Steps of the tile walk: tiles of D, counted by clusters. */
export function hopperClusterTiles(tile: HopperTile, m: number, n: number, gated: boolean): number {
  return Math.ceil(m / (tile.rows * tile.cluster)) * Math.ceil(n / hopperTileWidth(tile, gated));
}

/** Columns of B of a tile that may have a gate: its half is what a box of the result takes. */
const leastGated = 128;

/** Rows up to which K is split: decode steps. Products of more have tiles enough, and fill tensor cores. */
const splitRows = 128;
/** Columns of K of a step, and steps that a part has at least. */
const depth = 64;
const leastSteps = 4;
/** Blocks of a cluster that every GPU of capability 9.0 can run. */
const largestCluster = 8;

/**
 * Parts of K, each a block of a cluster, for products of few rows: as many as half the multiprocessors can take at once, when
 * a tile has 128 columns. (Clusters of four and more leave multiprocessors idle: those of a GPC are not a multiple of them.) It
 * depends on B alone, or a row's bits would depend on its batch.
 */
export function hopperSplit(p: HopperShape, multiprocessors: number): number {
  if (p.m > splitRows) return 1;
  const tiles = Math.ceil((p.gated ? 2 * p.n : p.n) / 128);
  let split = 1;
  while (
    split < largestCluster &&
    2 * split * tiles <= multiprocessors / 2 &&
    2 * split * leastSteps <= Math.ceil(p.k / depth)
  ) {
    split *= 2;
  }
  return split;
}

/**
 * Rows of A that one copy brings, a multiple of a swizzle's eight. Rows past the last one cost the copy engine more than rows that
 * there are, so of few rows it is asked for no more.
 */
export function hopperBoxRows(tile: HopperTile, m: number): number {
  if (m <= tile.rows) return Math.ceil(m / 8) * 8;
  return m <= splitRows ? 32 : tile.rows;
}

/** Of a multiprocessor, each clock: bytes that come from L2, and operations of its tensor cores as they are sustained. */
const loadBytes = 64;
const operations = 3500;
/** Clocks from the start of a tile to the first product, and to its store. */
const tileClocks = 1500;
/** Bytes that come from memory each clock, for all multiprocessors. */
const memoryBytes = 1800;
/** Of the multiprocessors, those that clusters of more than two blocks can use. */
const clusterShare = 0.9;

/**
 * The tile shape: the one that takes the fewest clocks by this model. The busiest multiprocessor loads and multiplies its tiles,
 * whichever of the two takes longer, while the weight comes from memory.
 */
export function chooseHopperTile(p: HopperShape, split: number, multiprocessors: number): HopperTileName {
  const { m, n, k, gated } = p;
  const memory = ((gated ? 2 * n : n) * k * 2) / memoryBytes;
  const clocks = (tile: HopperTile): number => {
    const blocks = hopperClusterTiles(tile, m, n, gated) * tile.cluster * split;
    const load = ((Math.min(m, tile.rows) + tile.cols / tile.cluster) * depth * 2) / loadBytes;
    const multiply = (2 * tile.rows * tile.cols * depth) / operations;
    const atOnce = split > 2 ? Math.floor(clusterShare * multiprocessors) : multiprocessors;
    const busy = Math.ceil(blocks / atOnce) * (Math.ceil(k / depth / split) * Math.max(load, multiply) + tileClocks);
    return Math.max(busy, memory) + 0.2 * Math.min(busy, memory);
  };
  const names = (Object.keys(hopperTiles) as HopperTileName[]).filter(
    (name) => (!gated || hopperTiles[name].cols >= leastGated) && (m > splitRows || hopperTiles[name].cluster === 1),
  );
  return names.reduce((best, name) => (clocks(hopperTiles[name]) < clocks(hopperTiles[best]) ? name : best));
}
