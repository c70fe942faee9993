import { afterEach, expect, test } from "vitest";
import { float16 } from "../../src/base/dtype.ts";
import { OutOfMemoryError } from "../../src/base/errors.ts";
import { mostDecodeBlocks } from "../../src/engine/cache-plan.ts";
import { PagedCache } from "../../src/engine/paged-cache.ts";
import { fakeDevice } from "../support/fake-driver.ts";

const MiB = 1024 * 1024;
const window = 100;
/** A block of one array is 32 KiB. */
const cacheShape = { layers: 3, windows: [window, 0, window], kvHeads: 8, headDim: 128, dtype: float16 };

let end = () => {};
afterEach(() => end());

function setUp(shape: object = {}, totalBytes = 1024 * MiB) {
  const { device, driver } = fakeDevice({ totalBytes });
  let moves = 0;
  const cache = new PagedCache({ device, cacheShape: { ...cacheShape, ...shape } }, () => {
    moves++;
  });
  end = () => {
    cache.dispose();
    device.dispose();
    expect(driver.leaks).toEqual([]);
  };
  return { cache, device, memory: driver.memories[0]!, moves: () => moves };
}

test("starts with what one sequence decodes in, or with what is reserved", () => {
  const { cache, moves } = setUp();
  expect(cache.sizeBytes).toBe(0);
  const sequence = cache.open();
  cache.reserve([20, 300], [sequence]);
  expect(cache.store.blocks).toEqual([20, 300]);
  cache.grow(sequence, 300);
  cache.close(sequence);
  expect(cache.store.blocks).toEqual([20, 300]);
  expect(moves()).toBe(0);
  const other = setUp().cache;
  other.grow(other.open(), 5);
  expect(other.store.blocks).toEqual([mostDecodeBlocks(window), 256]);
});

test("what is reserved counts the blocks that the sequences hold already", () => {
  const { cache, moves } = setUp();
  const sequence = cache.open();
  cache.reserve([8, 256], [sequence]);
  cache.grow(sequence, 128);
  cache.reserve([8, 256], [sequence]);
  expect(cache.store.blocks).toEqual([8, 256]);
  expect(moves()).toBe(0);
});

test("a group grows by a quarter, one with a window by no more than is of use, and keys stay where they were", () => {
  const { cache, device, memory, moves } = setUp();
  const [a, b] = [cache.open(), cache.open()];
  cache.reserve([8, 2000], [a, b]);
  cache.grow(a, 128);
  const bytes = 8 * 32 * 1024;
  for (const layer of [0, 2]) device.stream.fill8(cache.store.keys[layer]!.ptr, layer + 1, bytes);
  cache.grow(b, 16);
  expect(moves()).toBe(1);
  expect(cache.store.blocks).toEqual([2 * mostDecodeBlocks(window), 2000]);
  for (const layer of [0, 2]) {
    expect(memory.bytes(cache.store.keys[layer]!.ptr, bytes).every((byte) => byte === layer + 1)).toBe(true);
  }
  // Beyond what two sequences decode in, as a prompt does, it gets what is missing.
  cache.grow(b, 1600);
  expect(cache.store.blocks).toEqual([108, 2000]);
  cache.slide(a, 5000);
  cache.slide(b, 5000);
  cache.grow(a, 16 * 1901);
  expect(cache.store.blocks[1]).toBe(2500);
});

test("blocks that a sequence left go to whoever comes next", () => {
  const { cache } = setUp();
  const [a, b] = [cache.open(), cache.open()];
  cache.grow(a, 128);
  const left = a.tables[0]!.entries.slice(0, 3);
  cache.slide(a, window - 1 + 48);
  cache.grow(b, 48);
  expect(new Set(b.tables[0]!.entries)).toEqual(new Set(left));
  expect(b.tables[1]!.entries).toEqual([8, 9, 10]); // who sees everything gives nothing back
  cache.close(b);
  cache.restore(a);
  expect(new Set(a.tables[0]!.entries.slice(0, 3))).toEqual(new Set(left));
});

test("where a quarter more is not to be had, what is missing must do; and where that is not, the error says so", () => {
  // 256 blocks of one array are 32 MiB.
  const { cache } = setUp({ layers: 1, windows: [0], kvHeads: 16, headDim: 256 }, 112 * MiB);
  const sequence = cache.open();
  cache.grow(sequence, 4096);
  cache.grow(sequence, 4097);
  expect(cache.store.blocks).toEqual([257]);
  expect(() => cache.grow(sequence, 8192)).toThrow(OutOfMemoryError);
  expect(sequence.tables[0]!.entries.length).toBe(257);
  cache.grow(sequence, 257 * 16);
});
