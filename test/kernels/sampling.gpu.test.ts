import { expect, test } from "vitest";
import { bfloat16, type DType, float16, float32 } from "../../src/base/dtype.ts";
import { encodeArray } from "../../src/base/element.ts";
import { distribution, type Filters, pick, uniform } from "../reference/sampling.ts";
import { argmax } from "../reference/selection.ts";
import { describeGpu, normals, toNumbers, upload } from "../support/gpu.ts";
import { type Row, sampleRows, unfiltered } from "./sampling-support.ts";

/** Logits like a language model's: many unlikely tokens, a few likely ones. */
function logitsOf(dtype: DType, vocab: number, seed: number) {
  const values = normals(vocab, seed).map((x) => 2.5 * x);
  for (let i = 0; i < 12 && i < vocab; i++) values[(i * 7919 + seed) % vocab] = 14 - i * 0.7;
  const stored = encodeArray(dtype, values);
  return { stored, values: toNumbers(dtype, stored) };
}

function draws(filters: Partial<Filters>, count: number, seed = 42n): Row[] {
  // As the kernel gets them: f32 parameters.
  const rounded = { ...unfiltered, ...filters };
  for (const key of ["temperature", "topP", "minP"] as const) rounded[key] = Math.fround(rounded[key]);
  return Array.from({ length: count }, (_, step) => ({ ...rounded, seed, step }));
}

/** Checks every token against the float64 inverse distribution; `slack` in probability absorbs float32 exponentials. */
function expectDraws(logits: Float64Array, rows: readonly Row[], tokens: readonly number[], slack = 3e-6): void {
  const probabilities = distribution(logits, rows[0]!);
  rows.forEach((row, i) => {
    expect(probabilities[tokens[i]!]).toBeGreaterThan(0);
    const u = uniform(row.seed, row.step);
    const allowed = [-slack, 0, slack].map((d) => pick(logits, probabilities, Math.min(Math.max(u + d, 0), 1 - 1e-12)));
    // With thousands of improbable tokens, the slack spans more than the three looked up.
    if (!allowed.includes(tokens[i]!)) expect(closeTo(logits, probabilities, tokens[i]!, u)).toBeLessThan(slack);
  });
}

/** Distance of `u` from the token's interval of the running probability. */
function closeTo(logits: Float64Array, probabilities: Float64Array, token: number, u: number): number {
  let start = 0;
  for (let i = 0; i < logits.length; i++) {
    const first = logits[i]! > logits[token]! || (logits[i] === logits[token] && i < token);
    if (first) start += probabilities[i]!;
  }
  return Math.max(start - u, u - start - probabilities[token]!, 0);
}

const filters: Record<string, Partial<Filters>> = {
  "no filter": {},
  "temperature 0.7": { temperature: 0.7 },
  "temperature 3": { temperature: 3 },
  "top-k 1": { topK: 1 },
  "top-k 40": { topK: 40, temperature: 1.5 },
  "top-p 0.9": { topP: 0.9 },
  "top-p 0.999, hot": { topP: 0.999, temperature: 2 },
  "top-p 1e-6": { topP: 1e-6 },
  "min-p 0.05": { minP: 0.05 },
  "min-p 1": { minP: 1 },
  "all of them": { temperature: 0.8, topK: 60, topP: 0.95, minP: 0.02 },
  "k above V": { topK: 2 ** 30, temperature: 1.2 },
};

describeGpu("sampling", (device) => {
  for (const dtype of [float32, float16, bfloat16]) {
    for (const vocab of [1, 7, 1000, 4097]) {
      for (const [name, f] of Object.entries(filters)) {
        test(`${dtype.name}, V = ${vocab}, ${name}: every draw is the reference's`, () => {
          const { stored, values } = logitsOf(dtype, vocab, vocab);
          const rows = draws(f, 24);
          expectDraws(
            values,
            rows,
            sampleRows(device, upload(device, stored), vocab, dtype, rows, { logitsStride: 0 }),
          );
        });
      }
    }
  }

  for (const [vocab, dtype] of [
    [128_256, bfloat16],
    [262_144, float32],
  ] as const) {
    for (const name of ["no filter", "top-k 40", "top-p 0.999, hot", "all of them"]) {
      test(`${dtype.name}, V = ${vocab}, ${name}`, () => {
        const { stored, values } = logitsOf(dtype, vocab, 5);
        const rows = draws(filters[name]!, 4, 77n);
        const tokens = sampleRows(device, upload(device, stored), vocab, dtype, rows, { logitsStride: 0 });
        expectDraws(values, rows, tokens);
      });
    }
  }

  test("frequencies follow the distribution (chi-square, fixed seeds)", () => {
    const { stored, values } = logitsOf(float32, 300, 9);
    const rows = draws({ temperature: 1.3, topP: 0.9 }, 3000, 0xdeadbeefcafen);
    const tokens = sampleRows(device, upload(device, stored), 300, float32, rows, { logitsStride: 0 });
    const probabilities = distribution(values, rows[0]!);
    let chi = 0;
    let cells = 0;
    let rest = 0;
    let restSeen = 0;
    probabilities.forEach((p, token) => {
      const seen = tokens.filter((t) => t === token).length;
      if (p === 0) expect(seen).toBe(0);
      else if (p * rows.length < 5) [rest, restSeen] = [rest + p * rows.length, restSeen + seen];
      else [chi, cells] = [chi + (seen - p * rows.length) ** 2 / (p * rows.length), cells + 1];
    });
    if (rest > 0) [chi, cells] = [chi + (restSeen - rest) ** 2 / rest, cells + 1];
    // The mean is cells - 1 and the deviation sqrt(2 (cells - 1)): four deviations, with a fixed seed, are generous.
    expect(chi).toBeLessThan(cells - 1 + 4 * Math.sqrt(2 * (cells - 1)));
  });

  test("equal logits: kept or dropped together, drawn evenly by id", () => {
    const vocab = 5000;
    const values = new Float64Array(vocab).fill(-2);
    const logits = upload(device, Float32Array.from(values));
    for (const f of [{}, { topK: 3 }, { topP: 0.1 }, { minP: 1 }]) {
      const rows = draws(f, 16, 3n);
      const tokens = sampleRows(device, logits, vocab, float32, rows, { logitsStride: 0 });
      expect(tokens).toEqual(rows.map((r) => Math.floor(uniform(r.seed, r.step) * vocab)));
    }
  });

  test("values of one bin, and zeros of both signs, are told apart exactly", () => {
    // Neighbouring floats around zero: a span of 2^30 keys within one bin.
    const values = Float32Array.from([0, -0, 1e-38, -1e-38, 1e-20, -1e-20, 1e-6, -1e-6, 3e-3, 1e-3, -1e-3, 1e-30]);
    for (const topK of [1, 2, 5, 7, 8, 11]) {
      const rows = draws({ topK }, 40, 8n);
      const tokens = sampleRows(device, upload(device, values), values.length, float32, rows, { logitsStride: 0 });
      expectDraws(Float64Array.from(values), rows, tokens);
    }
  });

  test("-inf logits are never drawn, and a single finite one always is", () => {
    const vocab = 9000;
    const values = new Float64Array(vocab).fill(Number.NEGATIVE_INFINITY);
    values[8191] = -3;
    const rows = draws({ temperature: 2, topK: 4, topP: 0.5, minP: 0.1 }, 8);
    const p = [vocab, float16, rows, { logitsStride: 0 }] as const;
    expect(sampleRows(device, upload(device, encodeArray(float16, values)), ...p)).toEqual(rows.map(() => 8191));
    values[5] = -3.5;
    const both = sampleRows(device, upload(device, encodeArray(float16, values)), ...p);
    expectDraws(values, rows, both);
  });

  test("greedy rows, alone and among sampled ones, take the argmax", () => {
    const vocab = 12_345;
    const all = Array.from({ length: 6 }, (_, r) => logitsOf(bfloat16, vocab, 100 + r));
    const stored = new Uint16Array(6 * vocab);
    all.forEach(({ stored: row }, r) => {
      stored.set(row as Uint16Array, r * vocab);
    });
    const logits = upload(device, stored);
    const expected = all.map(({ values }) => argmax(values));
    const greedy = draws({ temperature: 0, topK: 5, topP: 0.5 }, 6);
    expect(sampleRows(device, logits, vocab, bfloat16, greedy)).toEqual(expected);
    expect(sampleRows(device, logits, vocab, bfloat16, greedy, { greedyOnly: true })).toEqual(expected);
    const mixed = greedy.map((row, r) => (r % 2 ? { ...row, temperature: 1 } : row));
    const tokens = sampleRows(device, logits, vocab, bfloat16, mixed);
    for (const r of [0, 2, 4]) expect(tokens[r]).toBe(expected[r]);
    // The lowest temperatures come down to the same, without overflow.
    const cold = draws({ temperature: 1e-30 }, 6).map((row) => ({ ...row, temperature: 1e-38 }));
    const unique = logitsOf(float32, 50, 1);
    const one = sampleRows(device, upload(device, unique.stored), 50, float32, cold, { logitsStride: 0 });
    expect(one).toEqual(cold.map(() => argmax(unique.values)));
  });

  test("(seed, step) decides, wherever the row is in the batch", () => {
    const vocab = 33_000;
    const { stored } = logitsOf(float16, vocab, 4);
    const logits = upload(device, stored);
    const rows: Row[] = Array.from({ length: 20 }, (_, i) => ({
      temperature: 0.5 + i / 10,
      topK: i % 3 === 0 ? 100 : 0,
      topP: i % 2 === 0 ? 0.9 : 1,
      minP: i % 5 === 0 ? 0.01 : 0,
      seed: 2n ** 63n + BigInt(i % 4),
      step: 1000 + i,
    }));
    const together = sampleRows(device, logits, vocab, float16, rows, { logitsStride: 0 });
    const backwards = sampleRows(device, logits, vocab, float16, [...rows].reverse(), { logitsStride: 0 });
    expect(backwards.reverse()).toEqual(together);
    for (const i of [0, 7, 19])
      expect(sampleRows(device, logits, vocab, float16, [rows[i]!], { logitsStride: 0 })).toEqual([together[i]]);
  });

  test("NaN, +inf and nothing but -inf fail with -1, and only their row does", () => {
    const vocab = 6000;
    const { stored, values } = logitsOf(float32, vocab, 2);
    const x = new Float32Array(4 * vocab);
    for (let r = 0; r < 4; r++) x.set(stored as Float32Array, r * vocab);
    x[0 * vocab + 5999] = Number.NaN;
    x[1 * vocab + 4100] = Number.POSITIVE_INFINITY;
    x.fill(Number.NEGATIVE_INFINITY, 2 * vocab, 3 * vocab);
    const logits = upload(device, x);
    const rows = draws({ topP: 0.9 }, 4);
    const tokens = sampleRows(device, logits, vocab, float32, rows);
    expect(tokens.slice(0, 3)).toEqual([-1, -1, -1]);
    expectDraws(values, rows.slice(3), tokens.slice(3));
    const greedy = sampleRows(device, logits, vocab, float32, draws({ temperature: 0 }, 4), { greedyOnly: true });
    expect(greedy).toEqual([-1, -1, -1, argmax(values)]);
  });
});
