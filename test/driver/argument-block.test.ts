import { describe, expect, test } from "vitest";
import { ArgumentBlock } from "../../src/driver/cuda/host-memory.ts";
import { koffiEngine } from "../../src/ffi/koffi.ts";

describe("launch arguments in native memory", () => {
  const engine = koffiEngine();
  const words = (address: bigint, count: number): bigint[] => [
    ...new BigUint64Array(engine.view(address, count * 8), 0, count),
  ];

  test("go to the driver as one block, with its size", () => {
    const block = new ArgumentBlock(engine, 128);
    block.setArgumentBytes(100);
    expect(block.parameters).toBe(0n);
    const [pointer, address, size, sizeAddress, end] = words(block.extra, 5);
    expect([pointer, address, size, end]).toEqual([1n, block.address, 2n, 0n]);
    expect(words(sizeAddress!, 1)).toEqual([100n]);
  });

  test("go one by one when their offsets are given: a tensor map shifts the compiler's own layout", () => {
    const block = new ArgumentBlock(engine, 192, [0, 128, 136]);
    expect(words(block.parameters, 3)).toEqual([block.address, block.address + 128n, block.address + 136n]);
  });
});
