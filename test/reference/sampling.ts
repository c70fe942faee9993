/** Sampling in float64, written from its definition with a full sort: what src/kernels/sampling must agree with. */

export interface Filters {
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
}

/** The probability of every token after all filters; 0 for tokens that cannot be drawn. */
export function distribution(logits: Float64Array, f: Filters): Float64Array {
  let max = Number.NEGATIVE_INFINITY;
  for (const l of logits) max = Math.max(max, l);
  const weights = logits.map((l) => Math.exp((l - max) / f.temperature));
  const order = Array.from(logits.keys()).sort((a, b) => logits[b]! - logits[a]!);

  let kept = order.length;
  if (f.topK > 0 && f.topK < kept) kept = withEquals(logits, order, f.topK);
  if (f.topP < 1) {
    let total = 0;
    for (let i = 0; i < kept; i++) total += weights[order[i]!]!;
    let sum = 0;
    let needed = 0;
    while (needed < kept && (needed === 0 || sum < f.topP * total)) sum += weights[order[needed++]!]!;
    kept = Math.min(kept, withEquals(logits, order, needed));
  }
  if (f.minP > 0) {
    let above = 0;
    while (above < kept && weights[order[above]!]! >= Math.min(1, f.minP)) above++;
    kept = above;
  }

  const out = new Float64Array(logits.length);
  let total = 0;
  for (let i = 0; i < kept; i++) total += weights[order[i]!]!;
  for (let i = 0; i < kept; i++) out[order[i]!] = weights[order[i]!]! / total;
  return out;
}

/** Grows a prefix of the order until its last value's equals are all in it. */
function withEquals(logits: Float64Array, order: readonly number[], count: number): number {
  let end = count;
  while (end < order.length && logits[order[end]!] === logits[order[count - 1]!]) end++;
  return end;
}

/** Philox4x32-10: four words from a counter and a key. Source: Salmon et al., SC 2011. */
export function philox(counter: readonly number[], key: readonly number[]): number[] {
  let [c0, c1, c2, c3] = counter.map((x) => BigInt(x)) as [bigint, bigint, bigint, bigint];
  let [k0, k1] = key.map((x) => BigInt(x)) as [bigint, bigint];
  const mask = 0xffffffffn;
  for (let round = 0; round < 10; round++) {
    const p0 = 0xd2511f53n * c0;
    const p1 = 0xcd9e8d57n * c2;
    [c0, c1, c2, c3] = [(p1 >> 32n) ^ c1 ^ k0, p1 & mask, (p0 >> 32n) ^ c3 ^ k1, p0 & mask];
    k0 = (k0 + 0x9e3779b9n) & mask;
    k1 = (k1 + 0xbb67ae85n) & mask;
  }
  return [c0, c1, c2, c3].map(Number);
}

/** The random number in [0, 1) that decides the draw of (seed, step). */
export function uniform(seed: bigint, step: number): number {
  const words = philox([step, 0, 0, 0], [Number(seed & 0xffffffffn), Number((seed >> 32n) & 0xffffffffn)]);
  return (words[0]! + words[1]! / 2 ** 32) / 2 ** 32;
}

/** The token at which the running probability, from the largest logit (equals by id), passes `u`. */
export function pick(logits: Float64Array, probabilities: Float64Array, u: number): number {
  const order = Array.from(logits.keys()).sort((a, b) => logits[b]! - logits[a]! || a - b);
  let sum = 0;
  for (const token of order) {
    sum += probabilities[token]!;
    if (u < sum) return token;
  }
  return order.find((token) => probabilities[token]! > 0)!;
}
