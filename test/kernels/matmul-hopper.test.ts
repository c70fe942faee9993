import { describe, expect, test } from "vitest";
import { bfloat16, float32, int32 } from "../../src/base/dtype.ts";
import type { DevicePtr } from "../../src/driver/api.ts";
import { hopperSharedBytes } from "../../src/kernels/matmul/hopper.ts";
import {
  chooseHopperTile,
  type HopperTile,
  hopperRefusal,
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

describe("the choice of a tile", () => {
  test("large products take the large tile, few rows or columns smaller ones", () => {
    expect(chooseHopperTile(4096, 4096, false, 132)).toBe("m128n256");
    expect(chooseHopperTile(512, 4096, false, 132)).toBe("m128n128");
    expect(chooseHopperTile(64, 14336, false, 132)).toBe("m64n128");
    expect(chooseHopperTile(64, 4096, false, 132)).toBe("m64n64");
  });

  test("a gate never takes a tile whose half is narrower than a stored box", () => {
    for (const n of [8, 4096, 14336]) expect(chooseHopperTile(1, n, true, 132)).not.toBe("m64n64");
  });

  test("every tile fits the shared memory of a multiprocessor as often as it says", () => {
    for (const tile of Object.values<HopperTile>(hopperTiles)) {
      // 228 KB on a multiprocessor, of which each block costs 1 KB more than it asks for.
      expect((hopperSharedBytes(tile) + 1024) * tile.blocksPerMultiprocessor).toBeLessThan(228 * 1024 + 1);
      expect(hopperSharedBytes(tile)).toBeLessThan(227 * 1024 + 1);
    }
  });
});
