import { expect, test } from "vitest";
import { bfloat16, float16, float32, int32 } from "../../src/base/dtype.ts";
import { penalizeRepetition, seenWords } from "../../src/kernels/sampling/repetition.ts";
import { describeGpu, output, randomArray, relativeL2, roundingTolerance, toNumbers, upload } from "../support/gpu.ts";

describeGpu("repetition penalty", (device) => {
  /** The tokens as bits. */
  const bitsOf = (rows: readonly (readonly number[])[], vocab: number) => {
    const words = seenWords(vocab);
    const bits = new Int32Array(rows.length * words);
    for (const [row, tokens] of rows.entries()) for (const v of tokens) bits[row * words + (v >> 5)]! |= 1 << (v & 31);
    return bits;
  };

  for (const dtype of [float32, float16, bfloat16]) {
    test.each([1, 31, 32, 77, 1000])(
      `${dtype.name}: what a row has seen, and what it drew last, of %d tokens`,
      (vocab) => {
        const at = (...tokens: number[]) => tokens.map((v) => v % vocab);
        const seen = [at(0, 5, 30), at(31, 64, 700), at(3), at(2, 40), []];
        const drawn = at(7, 999, 31, 12, 0);
        const steps = [4, 1, 0, 2, 9]; // the third row has drawn nothing yet
        const penalties = [1.3, 0.5, 2, 1, 1.1]; // the fourth has none
        const x = randomArray(dtype, seen.length * vocab, vocab);
        const logits = output(device, dtype, x.length, x);
        const bits = output(device, int32, seen.length * seenWords(vocab), bitsOf(seen, vocab));
        penalizeRepetition(device.stream, {
          logits: logits.ptr,
          seen: bits.ptr,
          tokens: upload(device, Int32Array.from(drawn)),
          steps: upload(device, Int32Array.from(steps)),
          penalties: upload(device, Float32Array.from(penalties)),
          rows: seen.length,
          vocab,
          dtype,
        });
        const all = seen.map((tokens, row) =>
          steps[row]! > 0 && penalties[row] !== 1 ? [...tokens, drawn[row]!] : tokens,
        );
        const expected = toNumbers(dtype, x).map((l, i) => {
          const [row, v] = [Math.floor(i / vocab), i % vocab];
          if (!all[row]!.includes(v)) return l;
          const penalty = Math.fround(penalties[row]!);
          return l > 0 ? l / penalty : l * penalty;
        });
        expect(relativeL2(logits.numbers(), expected)).toBeLessThan(roundingTolerance(dtype));
        expect([...(bits.stored() as Int32Array)]).toEqual([...bitsOf(all, vocab)]);
        const stored = logits.stored();
        for (const [i, value] of x.entries()) {
          if (!all[Math.floor(i / vocab)]!.includes(i % vocab)) expect(stored[i]).toBe(value);
        }
      },
    );
  }

  test("a row that failed draws no token, and its bits stay", () => {
    const x = randomArray(float32, 40, 1);
    const logits = output(device, float32, 40, x);
    const bits = output(device, int32, 2, Int32Array.of(0, 0));
    penalizeRepetition(device.stream, {
      logits: logits.ptr,
      seen: bits.ptr,
      tokens: upload(device, Int32Array.of(-1)),
      steps: upload(device, Int32Array.of(3)),
      penalties: upload(device, Float32Array.of(2)),
      rows: 1,
      vocab: 40,
      dtype: float32,
    });
    expect([...(bits.stored() as Int32Array)]).toEqual([0, 0]);
    expect([...logits.stored()]).toEqual([...x]);
  });
});
