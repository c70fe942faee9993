import { expect, test } from "vitest";
import { chooseCopy } from "../../src/kernels/copy/choice.ts";
import { chooseBinary } from "../../src/kernels/elementwise/elementwise.ts";
import { chooseReduce, chunkSize } from "../../src/kernels/reduce/choice.ts";

test("contiguous views are one copy of the driver", () => {
  expect(chooseCopy([3, 5, 7], [35, 7, 1], [35, 7, 1], 2, 0n, 0n).kind).toBe("flat");
});

test("permuted heads move 16 bytes at a time", () => {
  // [T, H, D] -> [H, T, D] in bf16, D = 64
  const choice = chooseCopy([8, 5, 64], [320, 64, 1], [64, 512, 1], 2, 0n, 256n);
  expect(choice.kind === "strided" && choice.bytes).toBe("16");
  expect(choice.kind === "strided" && choice.layout.shape).toEqual([8, 5, 8]);
});

test("an address that is not aligned narrows the unit", () => {
  const choice = chooseCopy([8, 5, 64], [320, 64, 1], [64, 512, 1], 2, 0n, 260n);
  expect(choice.kind === "strided" && choice.bytes).toBe("4");
});

test("a transpose goes through tiles, with the other dimensions as batch", () => {
  const choice = chooseCopy([2, 3, 40, 50], [6000, 2000, 50, 1], [6000, 2000, 1, 40], 4, 0n, 0n);
  expect(choice).toEqual({
    kind: "tiled",
    bytes: "4",
    tile: 32,
    rows: 40,
    cols: 50,
    outRow: 50,
    xCol: 40,
    layout: { shape: [6], strides: [[2000], [2000]] },
  });
});

test("a thin transpose and a broadcast source take the plain loop", () => {
  expect(chooseCopy([3, 50], [50, 1], [1, 3], 4, 0n, 0n).kind).toBe("strided");
  const broadcast = chooseCopy([4, 16], [16, 1], [1, 0], 4, 0n, 0n);
  expect(broadcast.kind === "strided" && broadcast.bytes).toBe("4");
});

test("binary: vectors for contiguous, row-broadcast and column-broadcast operands", () => {
  const address = { out: 0n, a: 512n, b: 1024n };
  expect(
    chooseBinary(
      [6, 64],
      [
        [64, 1],
        [64, 1],
      ],
      2,
      address,
    ),
  ).toEqual({
    vector: true,
    layout: { shape: [48], strides: [[8], [8]] },
  });
  expect(
    chooseBinary(
      [6, 64],
      [
        [64, 1],
        [0, 1],
      ],
      2,
      address,
    ),
  ).toEqual({
    vector: true,
    layout: {
      shape: [6, 8],
      strides: [
        [64, 8],
        [0, 8],
      ],
    },
  });
  expect(
    chooseBinary(
      [6, 64],
      [
        [64, 1],
        [1, 0],
      ],
      2,
      address,
    ),
  ).toEqual({
    vector: true,
    layout: {
      shape: [6, 8],
      strides: [
        [64, 8],
        [1, 0],
      ],
    },
  });
  expect(
    chooseBinary(
      [6, 63],
      [
        [63, 1],
        [0, 1],
      ],
      2,
      address,
    ).vector,
  ).toBe(false);
  expect(
    chooseBinary(
      [6, 64],
      [
        [64, 1],
        [64, 1],
      ],
      2,
      { ...address, a: 2n },
    ).vector,
  ).toBe(false);
  expect(
    chooseBinary(
      [6, 64],
      [
        [1, 6],
        [64, 1],
      ],
      2,
      address,
    ).vector,
  ).toBe(false);
});

test("reduce: the order of additions does not depend on the number of rows", () => {
  const one = chooseReduce([1, 5000], [5000, 1], [1], 4, 0n);
  const many = chooseReduce([300, 5000], [5000, 1], [1], 4, 0n);
  for (const key of ["chunks", "lanes", "columns", "vector"] as const) expect(one[key]).toBe(many[key]);
});

test("reduce: rows read along memory, columns across it, and long ranges are cut", () => {
  expect(chooseReduce([64, 128], [128, 1], [1], 2, 0n)).toMatchObject({
    columns: false,
    vector: true,
    lanes: 16,
    outputs: 64,
  });
  expect(chooseReduce([64, 128], [128, 1], [0], 2, 0n)).toMatchObject({
    columns: true,
    vector: false,
    lanes: 8,
    outputs: 128,
  });
  expect(chooseReduce([64, 128], [128, 1], [0, 1], 2, 0n)).toMatchObject({ outputs: 1, reducedCount: 8192, chunks: 1 });
  expect(chooseReduce([chunkSize * 2 + 1], [1], [0], 4, 0n)).toMatchObject({ chunks: 3, vector: false, lanes: 256 });
  expect(chooseReduce([5, 127], [127, 1], [1], 2, 0n).vector).toBe(false);
});
