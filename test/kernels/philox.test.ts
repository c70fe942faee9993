import { expect, test } from "vitest";
import { philox4x32, randomWords } from "../../src/kernels/random/philox.ts";

// The known-answer vectors of Random123 for philox4x32 with 10 rounds.
test.each([
  [
    [0, 0, 0, 0],
    [0, 0],
    [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
  ],
  [
    [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
    [0xffffffff, 0xffffffff],
    [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  ],
  [
    [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
    [0xa4093822, 0x299f31d0],
    [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  ],
])("philox4x32-10 of counter %j, key %j", (counter, key, expected) => {
  expect(philox4x32(counter as [number, number, number, number], key as [number, number])).toEqual(expected);
});

test("seeds and offsets are 64-bit, and groups count up from the offset", () => {
  expect(randomWords(0n, 0n, 0)).toEqual([0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
  expect(randomWords(5n, 3n, 4)).toEqual(randomWords(5n, 7n, 0));
  expect(randomWords(2n ** 64n + 5n, -1n, 1)).toEqual(randomWords(5n, 0n, 0));
  expect(randomWords(2n ** 32n, 0n, 0)).toEqual(philox4x32([0, 0, 0, 0], [0, 1]));
});
