/**
 * Philox4x32-10 on the host: what philox.cuh computes, for tests and for anything that must agree with the GPU's numbers.
 * `counter` and `key` are four and two 32-bit words, least significant first. Returns four words.
 * Source: Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3; SC 2011.
 */
export function philox4x32(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
): [number, number, number, number] {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const p0 = 0xd2511f53n * BigInt(c0 >>> 0);
    const p1 = 0xcd9e8d57n * BigInt(c2 >>> 0);
    [c0, c1, c2, c3] = [
      (Number(p1 >> 32n) ^ c1 ^ k0) >>> 0,
      Number(p1 & 0xffffffffn),
      (Number(p0 >> 32n) ^ c3 ^ k1) >>> 0,
      Number(p0 & 0xffffffffn),
    ];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** The four words that elements 4 * group … 4 * group + 3 take under `seed` and `offset`. */
export function randomWords(seed: bigint, offset: bigint, group: number): [number, number, number, number] {
  const counter = BigInt.asUintN(64, offset + BigInt(group));
  const low = (x: bigint): number => Number(BigInt.asUintN(32, x));
  const key = BigInt.asUintN(64, seed);
  return philox4x32([low(counter), low(counter >> 32n), 0, 0], [low(key), low(key >> 32n)]);
}
