import { describe, expect, test } from "vitest";
import { countSectors } from "../../../src/sim/profile/sectors.ts";
import { bankPasses, matrixPasses } from "../../../src/sim/profile/shared-banks.ts";

const all = -1;
const lanes = (address: (lane: number) => number) => Uint32Array.from({ length: 32 }, (_, lane) => address(lane));

describe("sectors of global memory", () => {
  const cases: [string, (lane: number) => number, number, number, { sectors: number; ideal: number }][] = [
    ["neighbouring floats", (l) => 4 * l, all, 4, { sectors: 4, ideal: 4 }],
    ["the same, four bytes off", (l) => 4 * l + 4, all, 4, { sectors: 5, ideal: 4 }],
    ["every second float", (l) => 8 * l, all, 4, { sectors: 8, ideal: 4 }],
    ["rows of 1 KB", (l) => 1024 * l, all, 4, { sectors: 32, ideal: 4 }],
    ["one float for all", () => 400, all, 4, { sectors: 1, ideal: 1 }],
    ["neighbours of 16 bytes", (l) => 16 * l, all, 16, { sectors: 16, ideal: 16 }],
    ["16 bytes of rows of 64", (l) => 64 * l, all, 16, { sectors: 32, ideal: 16 }],
    ["bytes", (l) => l, all, 1, { sectors: 1, ideal: 1 }],
    ["backwards", (l) => 4096 - 4 * l, all, 4, { sectors: 5, ideal: 4 }],
    ["one lane", (l) => 1000 * l, 1 << 31, 4, { sectors: 1, ideal: 1 }],
    ["half a warp", (l) => 4 * l, 0xffff, 4, { sectors: 2, ideal: 2 }],
    ["addresses above 2 GiB", (l) => 0xf0000000 + 4 * l, all, 4, { sectors: 4, ideal: 4 }],
  ];
  test.each(cases)("%s", (_, address, mask, bytes, wanted) => {
    expect(countSectors(lanes(address), mask, bytes)).toEqual(wanted);
  });
});

describe("banks of shared memory", () => {
  const cases: [string, (lane: number) => number, number, number, { passes: number; ideal: number }][] = [
    ["neighbouring words", (l) => 4 * l, all, 4, { passes: 1, ideal: 1 }],
    ["every second word", (l) => 8 * l, all, 4, { passes: 2, ideal: 1 }],
    ["an odd stride", (l) => 4 * 33 * l, all, 4, { passes: 1, ideal: 1 }],
    ["a column of a tile of 32", (l) => 128 * l, all, 4, { passes: 32, ideal: 1 }],
    ["one word for all", () => 64, all, 4, { passes: 1, ideal: 1 }],
    ["two words of one bank", (l) => 128 * (l & 1), all, 4, { passes: 2, ideal: 1 }],
    ["bytes of the same words", (l) => l, all, 1, { passes: 1, ideal: 1 }],
    ["neighbours of 8 bytes, by half warps", (l) => 8 * l, all, 8, { passes: 2, ideal: 2 }],
    ["8 bytes of rows of 16", (l) => 16 * l, all, 8, { passes: 4, ideal: 2 }],
    ["neighbours of 16 bytes, by quarter warps", (l) => 16 * l, all, 16, { passes: 4, ideal: 4 }],
    ["16 bytes of rows of 128", (l) => 128 * l, all, 16, { passes: 32, ideal: 4 }],
    ["16 bytes of rows of 144", (l) => 144 * l, all, 16, { passes: 4, ideal: 4 }],
    ["only the last quarter warp", (l) => 16 * l, 0xff << 24, 16, { passes: 1, ideal: 1 }],
    ["a few lanes of a column", (l) => 128 * l, 0b10101, 4, { passes: 3, ideal: 1 }],
  ];
  test.each(cases)("%s", (_, address, mask, bytes, wanted) => {
    expect(bankPasses(lanes(address), mask, bytes)).toEqual(wanted);
  });

  test("ldmatrix takes eight rows of 16 bytes a pass", () => {
    const rows = (pitch: number) => Uint32Array.from({ length: 32 }, (_, row) => pitch * row);
    expect(matrixPasses(rows(16), 32)).toEqual({ passes: 4, ideal: 4 });
    expect(matrixPasses(rows(128), 32)).toEqual({ passes: 32, ideal: 4 });
    expect(matrixPasses(rows(64), 16)).toEqual({ passes: 8, ideal: 2 });
    expect(matrixPasses(rows(80), 8)).toEqual({ passes: 1, ideal: 1 });
  });
});
