import { float32 } from "../../base/dtype.ts";
import type { Target } from "../spec.ts";
import type { MatmulParams } from "./params.ts";

/** What a tile shape of hopper.cu takes; the numbers are those of its `Shape` of the same name. */
export interface HopperTile {
  readonly rows: number;
  readonly cols: number;
  readonly stages: number;
  /** Blocks of a cluster: they take tiles one above the other and share B. */
  readonly cluster: number;
  readonly blocksPerMultiprocessor: number;
  /** Arithmetic rate of a busy multiprocessor relative to the largest tile: smaller ones load more per operation. */
  readonly rate: number;
}

export const hopperTiles = {
  m128n256: { rows: 128, cols: 256, stages: 4, cluster: 2, blocksPerMultiprocessor: 1, rate: 1 },
  m128n128: { rows: 128, cols: 128, stages: 6, cluster: 1, blocksPerMultiprocessor: 1, rate: 0.85 },
  m64n128: { rows: 64, cols: 128, stages: 8, cluster: 1, blocksPerMultiprocessor: 1, rate: 0.6 },
  m64n64: { rows: 64, cols: 64, stages: 5, cluster: 1, blocksPerMultiprocessor: 2, rate: 0.45 },
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
  if (p.gate && p.tile === "m64n64") return "the tile m64n64 is too narrow for a gate";
  return undefined;
}

export function hopperSupports(p: MatmulParams, runnable: readonly Target[]): boolean {
  return hopperRefusal(p, runnable) === undefined;
}

/** Whether the result can leave through the copy engine: 16-bit, aligned rows, and nothing to be read with it. */
export function hopperStoresBulk(p: MatmulParams): boolean {
  return p.outDtype !== float32 && !p.residual && (p.ldd ?? p.n) % 8 === 0 && p.out % 16n === 0n;
}

/** Columns of D that a tile covers: with a gate, half of its columns of B belong to the other matrix. */
export function hopperTileWidth(tile: HopperTile, gated: boolean): number {
  return gated ? tile.cols / 2 : tile.cols;
}

/** Steps of the tile walk: tiles of D, counted by clusters. */
export function hopperClusterTiles(tile: HopperTile, m: number, n: number, gated: boolean): number {
  return Math.ceil(m / (tile.rows * tile.cluster)) * Math.ceil(n / hopperTileWidth(tile, gated));
}

/**
 * The tile shape for D[m, n]: the one whose busiest multiprocessor finishes first. A tile costs its area over its rate;
 * large tiles win until there are too few of them to go round. K does not matter, since every tile walks all of it.
 */
export function chooseHopperTile(m: number, n: number, gated: boolean, multiprocessors: number): HopperTileName {
  let best: HopperTileName = "m128n256";
  let bestCost = Number.POSITIVE_INFINITY;
  for (const name of Object.keys(hopperTiles) as HopperTileName[]) {
    const tile: HopperTile = hopperTiles[name];
    if (gated && tile.cols < 128) continue;
    const tiles = hopperClusterTiles(tile, m, n, gated) * tile.cluster;
    const cost = (Math.ceil(tiles / multiprocessors) * tile.rows * tile.cols) / tile.rate;
    if (cost < bestCost) {
      best = name;
      bestCost = cost;
    }
  }
  return best;
}
