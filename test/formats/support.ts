import { openCheckpoint } from "../../src/formats/safetensors/checkpoint.ts";
import { writeCheckpoint } from "../../src/formats/safetensors/write.ts";

/** Writes the weights of a checkpoint into another directory, as shards of at most `maxShardBytes` and their index. */
export function shard(from: string, directory: string, maxShardBytes: number): void {
  using source = openCheckpoint(from);
  const tensors = [...source.tensors.values()].map(({ name, shape, elementType }) => {
    if (!elementType) throw new Error(`${name}: a type that is not written`);
    return { name, shape, dtype: elementType, data: () => source.read(name) };
  });
  writeCheckpoint(directory, tensors, { maxShardBytes });
}

/** What a call throws, or undefined when it returns. */
export function thrownBy(action: () => unknown): Error | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    return error as Error;
  }
}

/** A seeded generator of integers in [0, limit): xorshift32, enough for fuzzing and the same on every machine. */
export function seededInts(seed: number): (limit: number) => number {
  let state = seed >>> 0 || 1;
  return (limit) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % limit;
  };
}

const hostile = [
  ...[
    "0",
    "-1",
    "1e308",
    "18446744073709551615",
    "9007199254740993",
    "0.5",
    "null",
    "true",
    "[]",
    "{}",
    '""',
    '"\\u0000"',
  ],
  ...[
    '"__proto__"',
    '"constructor"',
    '"F32"',
    '"../x"',
    "[[[[",
    '{"a":',
    ",",
    ":",
    '"',
    "\\",
    "}",
    "]",
    "\u0000",
    "\u{1f600}",
  ],
];

/** A copy of `bytes` with one to four random faults: flipped, lost, repeated or moved bytes, numbers and tokens that do not belong. */
export function mutate(bytes: Uint8Array, next: (limit: number) => number): Uint8Array {
  let result = Buffer.from(bytes);
  for (let faults = 1 + next(4); faults > 0; faults--) {
    const at = next(result.length + 1);
    const length = 1 + next(next(4) === 0 ? 200 : 8);
    const [before, after] = [result.subarray(0, at), result.subarray(at)];
    switch (next(6)) {
      case 0:
        if (at < result.length) result[at]! ^= 1 << next(8);
        break;
      case 1:
        result = Buffer.concat([before, after.subarray(length)]);
        break;
      case 2:
        result = Buffer.concat([before, after.subarray(0, length), after]);
        break;
      case 3:
        result = Buffer.concat([before, Buffer.from(hostile[next(hostile.length)]!), after]);
        break;
      case 4:
        result = Buffer.concat([before, Buffer.from(hostile[next(hostile.length)]!), after.subarray(length)]);
        break;
      default:
        result = Buffer.from(replaceNumber(result.toString("latin1"), next), "latin1");
    }
  }
  return Uint8Array.from(result);
}

/** Sizes and numbers that break what trusts them, as the bits of 64. */
const hostileNumbers = [
  ...[0n, 1n, 2n, 3n, 7n, 8n, 9n, 13n, 31n, 33n, 255n, 65_536n, 2n ** 31n - 1n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 32n],
  ...[2n ** 52n, 2n ** 53n, 2n ** 61n, 2n ** 62n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n],
];

/** A copy of binary `bytes` with one to four faults: numbers of 32 or 64 bits replaced or moved by one, and those of `mutate`. */
export function mutateBinary(bytes: Uint8Array, next: (limit: number) => number): Uint8Array {
  let result = Buffer.from(bytes);
  for (let faults = 1 + next(4); faults > 0; faults--) {
    const at = next(Math.max(1, result.length - 8));
    const length = 1 + next(16);
    if (result.length < 16) break;
    switch (next(7)) {
      case 0:
        result[at]! ^= 1 << next(8);
        break;
      case 1:
        result.writeUInt32LE(Number(hostileNumbers[next(hostileNumbers.length)]! & 0xffffffffn), at);
        break;
      case 2:
        result.writeBigUInt64LE(hostileNumbers[next(hostileNumbers.length)]!, at);
        break;
      case 3:
        result.writeUInt32LE((result.readUInt32LE(at) + (next(2) ? 1 : -1)) >>> 0, at);
        break;
      case 4:
        result =
          next(4) === 0
            ? result.subarray(0, at)
            : Buffer.concat([result.subarray(0, at), result.subarray(at + length)]);
        break;
      case 5:
        result = Buffer.concat([result.subarray(0, at + length), result.subarray(at)]);
        break;
      default:
        result.copy(result, next(Math.max(1, result.length - 8)), at, at + 8);
    }
  }
  return Uint8Array.from(result);
}

/** Puts another value where a number stands, which keeps the text valid JSON. */
function replaceNumber(text: string, next: (limit: number) => number): string {
  const numbers = [...text.matchAll(/\d+/g)];
  const chosen = numbers[next(Math.max(1, numbers.length))];
  if (!chosen) return text;
  const value = next(2) === 0 ? String(next(200)) : hostile[next(12)]!;
  return text.slice(0, chosen.index) + value + text.slice(chosen.index + chosen[0].length);
}
