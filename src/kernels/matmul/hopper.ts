import { float32 } from "../../base/dtype.ts";
import { UnsupportedError } from "../../base/errors.ts";
import { type DevicePtr, nullPtr, type TensorMapLayout } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";
import { deviceTargets, launch } from "../library.ts";
import { defineKernel } from "../spec.ts";
import { mapBlocks } from "../tensor-map.ts";
import {
  chooseHopperTile,
  type HopperTile,
  type HopperTileName,
  hopperBoxRows,
  hopperClusterTiles,
  hopperRefusal,
  hopperSplit,
  hopperStoresBulk,
  hopperTiles,
} from "./hopper-choice.ts";
import type { MatmulParams } from "./params.ts";

/** hopper.cu: one PTX file per element type of A and B and per tile shape; the output's type is an argument. */
export const hopperKernel = defineKernel({
  family: "gemm_wgmma",
  source: "matmul/hopper.cu",
  args: {
    mapA: "tensorMap",
    mapB: "tensorMap",
    mapD: "tensorMap",
    out: "ptr",
    bias: "ptr",
    residual: "ptr",
    ldd: "i64",
    ldr: "i64",
    m: "i32",
    n: "i32",
    k: "i32",
    alpha: "f32",
    groupRows: "i32",
    gate: "i32",
    store: "i32",
    split: "i32",
    boxRows: "i32",
  },
  axes: { dtype: ["f16", "bf16"], tile: ["m128n256", "m128n128", "m128n64", "m64n128", "m64n64"] },
  targets: ["sm_90a"],
});

/** Columns of K that one stage of the ring holds: 128 bytes, the copy engine's widest swizzle. */
const depth = 64;
/** Bytes of a warp's output staging: two boxes of 16 rows x 64 columns, 16-bit. */
const stagingPerWarp = 2 * 16 * 64 * 2;
/** `Store` of hopper.cu. */
const store = { bulk: 0, scalar: 1, float: 2 } as const;
/** `gate` of hopper.cu. */
const gates = { silu: 1, gelu: 2 } as const;
/** Rows of D that a group of the tile walk covers: with as many columns in flight, what a wave of blocks reads stays in L2. */
const groupRows = 2048;

/** A 16-bit row-major matrix, copied in boxes of `boxRows` rows x 128 bytes. */
function matrix(
  p: MatmulParams,
  address: DevicePtr,
  rows: number,
  cols: number,
  ld: number,
  boxRows: number,
): TensorMapLayout {
  return {
    address,
    element: p.dtype.short === "bf16" ? "bf16" : "f16",
    dims: [cols, rows],
    strideBytes: [ld * 2],
    box: [depth, boxRows],
    swizzle: 128,
  };
}

/** Dynamic shared memory of a block: ring, staging, barriers, and what aligning the start to 1024 bytes may skip. */
export function hopperSharedBytes(tile: HopperTile): number {
  const stage = (tile.rows + tile.cols) * depth * 2;
  const warps = (tile.rows / 64) * 4;
  return tile.stages * stage + warps * stagingPerWarp + 2 * tile.stages * 8 + 1024;
}

/**
 * Computes `p` (see MatmulParams) with Hopper's tensor core instructions; `p.tile` forces a tile shape.
 * Throws UnsupportedError for what hopperRefusal names: ask it first.
 */
export function gemmHopper(stream: Stream, p: MatmulParams): void {
  if (p.m === 0 || p.n === 0 || p.batch === 0) return;
  const device = stream.device;
  const refusal = hopperRefusal(p, deviceTargets(device));
  if (refusal) throw new UnsupportedError(`matmul: the kernel "hopper" cannot run this on ${device.name}: ${refusal}`);

  const gated = p.gate !== undefined;
  const multiprocessors = device.attributes.multiprocessors;
  const shape = { m: p.m, n: p.n, k: p.k, gated };
  const split = hopperSplit(shape, multiprocessors);
  const name = (p.tile as HopperTileName | undefined) ?? chooseHopperTile(shape, split, multiprocessors);
  const tile: HopperTile = hopperTiles[name];
  const ldd = p.ldd ?? p.n;
  const bulk = hopperStoresBulk(p);

  const [a, b, d] = mapBlocks(device.api);
  device.makeCurrent();
  // With a gate B has two places, and the blocks of a cluster fetch half of it each.
  const halves = gated || tile.cluster > 1;
  const boxRows = hopperBoxRows(tile, p.m);
  device.api.encodeTensorMap(a.block, matrix(p, p.a, p.m, p.k, p.lda ?? p.k, boxRows));
  device.api.encodeTensorMap(
    b.block,
    matrix(p, p.b, gated ? 2 * p.n : p.n, p.k, p.ldb ?? p.k, halves ? tile.cols / 2 : tile.cols),
  );
  if (bulk) device.api.encodeTensorMap(d.block, matrix(p, p.out, p.m, p.n, ldd, 16));

  const tiles = hopperClusterTiles(tile, p.m, p.n, gated);
  // Without parts of K, blocks that stay and share out the tiles; with them, a cluster for each.
  const resident = Math.floor(multiprocessors / tile.cluster);
  const cluster = tile.cluster * split;
  const grid = (split > 1 ? tiles : Math.min(resident, tiles)) * cluster;
  launch(
    stream,
    hopperKernel,
    { dtype: p.dtype.short === "bf16" ? "bf16" : "f16", tile: name },
    { grid: [grid], block: 128 * (1 + tile.rows / 64), sharedBytes: hopperSharedBytes(tile), cluster },
    {
      mapA: a.bytes,
      mapB: b.bytes,
      mapD: d.bytes,
      out: p.out,
      bias: p.bias ?? nullPtr,
      residual: p.residual ?? nullPtr,
      ldd: BigInt(ldd),
      ldr: BigInt(p.ldResidual ?? ldd),
      m: p.m,
      n: p.n,
      k: p.k,
      alpha: p.alpha ?? 1,
      groupRows: groupRows / (tile.rows * tile.cluster),
      gate: p.gate ? gates[p.gate] : 0,
      store: bulk ? store.bulk : p.outDtype === float32 ? store.float : store.scalar,
      split,
      boxRows,
    },
    { overlap: p.overlap === true },
  );
}
