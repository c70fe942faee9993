import { describe, expect, test } from "vitest";
import { bfloat16, float32, int32 } from "../../src/base/dtype.ts";
import type { DevicePtr } from "../../src/driver/api.ts";
import { hopperSharedBytes } from "../../src/kernels/matmul/hopper.ts";
import {
  chooseHopperTile,
  type HopperTile,
  hopperBoxRows,
  hopperRefusal,
  hopperSplit,
  hopperStoresBulk,
  hopperSupports,
  hopperTiles,
} from "../../src/kernels/matmul/hopper-choice.ts";
import type { MatmulParams } from "../../src/kernels/matmul/params.ts";
import { runnableTargets } from "../../src/kernels/target.ts";

const h100 = runnableTargets(90);
const ptr = (address: number): DevicePtr => BigInt(address) as DevicePtr;
const linear: MatmulParams = {
  out: ptr(0x10000),
  a: ptr(0x20000),
  b: ptr(0x30000),
  m: 100,
  n: 300,
  k: 72,
  dtype: bfloat16,
  transposeB: true,
};

describe("what the Hopper matmul accepts", () => {
  test("takes a linear layer, ragged sizes included", () => {
    expect(hopperRefusal(linear, h100)).toBe(undefined);
    expect(hopperSupports({ ...linear, m: 1, n: 1, k: 5, lda: 8, ldb: 8, outDtype: float32 }, h100)).toBe(true);
  });

  const refused: [string, Partial<MatmulParams>, RegExp][] = [
    ["float32 operands", { dtype: float32 }, /float32/],
    ["an integer result", { outDtype: int32 }, /int32/],
    ["A as [K, M]", { transposeA: true }, /\[M, K\]/],
    ["B as [K, N]", { transposeB: false }, /\[N, K\]/],
    ["rows that are not 16-byte aligned", { lda: 76 }, /76/],
    ["an A that is not 16-byte aligned", { a: ptr(0x20008) }, /16-byte/],
    ["a batch", { batch: 2 }, /batch/],
    ["beta", { beta: 1 }, /beta/],
    ["K = 0", { k: 0 }, /K is 0/],
    ["an unknown tile", { tile: "m1n1" }, /m128n256/],
  ];
  test.each(refused)("refuses %s", (_, change, reason) => {
    expect(hopperRefusal({ ...linear, ...change }, h100)).toMatch(reason);
  });

  test("needs capability 9.0 exactly, and LLCUDA_TARGET may forbid it", () => {
    expect(hopperSupports(linear, runnableTargets(89))).toBe(false);
    expect(hopperSupports(linear, runnableTargets(100))).toBe(false);
    expect(hopperSupports(linear, runnableTargets(90, "sm_90"))).toBe(false);
  });

  test("stores through the copy engine only aligned 16-bit rows without a residual", () => {
    expect(hopperStoresBulk({ ...linear, n: 304 })).toBe(true);
    expect(hopperStoresBulk({ ...linear, n: 300 })).toBe(false);
    expect(hopperStoresBulk({ ...linear, n: 300, ldd: 304 })).toBe(true);
    expect(hopperStoresBulk({ ...linear, n: 304, out: ptr(0x10002) })).toBe(false);
    expect(hopperStoresBulk({ ...linear, n: 304, outDtype: float32 })).toBe(false);
    expect(hopperStoresBulk({ ...linear, n: 304, residual: ptr(0x40000) })).toBe(false);
  });
});

describe("parts of K", () => {
  const split = (n: number, k: number, gated = false, m = 64) => hopperSplit({ m, n, k, gated }, 132);

  test("narrow weights of few rows are split, as far as clusters and K allow", () => {
    expect(split(4096, 14336)).toBe(2);
    expect(split(2048, 4096)).toBe(4);
    expect(split(1024, 4096)).toBe(8);
    expect(split(8, 4096)).toBe(8);
    expect(split(14336, 4096)).toBe(1);
    expect(split(1024, 64)).toBe(1);
    expect(split(1024, 8 * 64)).toBe(2);
  });

  test("rows do not change it below 129, so that they have the bits of any other batch", () => {
    for (const m of [1, 17, 127, 128]) expect(split(1024, 4096, false, m)).toBe(8);
    expect(split(1024, 4096, false, 129)).toBe(1);
  });

  test("a gated product has the parts of its halves computed as one", () => {
    for (const n of [512, 1024, 2048, 14336]) expect(split(n, 4096, true)).toBe(split(2 * n, 4096));
  });
});

describe("the choice of a tile", () => {
  const tile = (m: number, n: number, k: number, gated = false) => {
    const shape = { m, n, k, gated };
    return chooseHopperTile(shape, hopperSplit(shape, 132), 132);
  };

  test("large products take the large tile, few rows or columns smaller ones", () => {
    expect(tile(4096, 4096, 4096)).toBe("m128n256");
    expect(tile(512, 4096, 4096)).toBe("m128n128");
    expect(tile(64, 14336, 4096)).toBe("m64n128");
    expect(tile(128, 14336, 4096)).toBe("m128n128");
    expect(tile(64, 4096, 4096)).toBe("m64n64");
  });

  test("a gate never takes a tile whose half is narrower than a stored box", () => {
    for (const n of [8, 4096, 14336]) expect(tile(1, n, 4096, true)).toMatch(/n128|n256/);
  });

  test("a tile of two blocks that share B is for more rows than K is split for", () => {
    for (const m of [1, 65, 128]) for (const n of [64, 4096, 128256]) expect(tile(m, n, 4096)).not.toBe("m128n256");
    expect(hopperRefusal({ ...linear, m: 128, tile: "m128n256" }, h100)).toMatch(/more than 128 rows/);
    expect(hopperSupports({ ...linear, m: 129, tile: "m128n256" }, h100)).toBe(true);
  });

  test("of few rows no more are copied than there are, by eights", () => {
    const { m64n64, m128n128, m128n256 } = hopperTiles;
    expect([1, 17, 64].map((m) => hopperBoxRows(m64n64, m))).toEqual([8, 24, 64]);
    expect([65, 96, 128].map((m) => hopperBoxRows(m64n64, m))).toEqual([32, 32, 32]);
    expect([96, 129].map((m) => hopperBoxRows(m128n128, m))).toEqual([96, 128]);
    expect(hopperBoxRows(m128n256, 4096)).toBe(128);
  });

  test("every tile fits the shared memory of a block", () => {
    for (const tile of Object.values<HopperTile>(hopperTiles))
      expect(hopperSharedBytes(tile)).toBeLessThan(227 * 1024 + 1);
  });
});
