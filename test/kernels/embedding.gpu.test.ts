import { expect, test } from "vitest";
import { bfloat16, float16, float32, int32 } from "../../src/base/dtype.ts";
import { ptrAdd } from "../../src/driver/api.ts";
import { embedding } from "../../src/kernels/embedding/embedding.ts";
import { describeGpu, output, randomArray, relativeL2, roundingTolerance, toNumbers, upload } from "../support/gpu.ts";

const vocab = 37;

describeGpu("embedding", (device) => {
  for (const dtype of [float32, float16, bfloat16]) {
    // 1, 7 and 13 columns take the element path; 4104 needs several rounds of a block.
    for (const cols of [1, 7, 8, 13, 256, 4104]) {
      test(`${dtype.name}, ${cols} columns: rows are copied bit for bit, ids out of range give NaN`, () => {
        const ids = Int32Array.from([0, 36, 5, 5, -1, 37, 2 ** 31 - 1, 1, -(2 ** 31)]);
        const table = randomArray(dtype, vocab * cols, 11);
        const out = output(device, dtype, ids.length * cols);
        const p = { table: upload(device, table), ids: upload(device, ids), tokens: ids.length, cols, vocab, dtype };
        embedding(device.stream, { out: out.ptr, ...p });
        const got = out.stored();
        ids.forEach((id, t) => {
          const row = got.slice(t * cols, (t + 1) * cols);
          if (id >= 0 && id < vocab) expect(row).toEqual(table.slice(id * cols, (id + 1) * cols));
          else expect(toNumbers(dtype, row).every(Number.isNaN)).toBe(true);
        });
      });
    }

    test(`${dtype.name}: a scale multiplies once, in float32`, () => {
      const cols = 40;
      const ids = Int32Array.from([3, 1, 4]);
      const table = randomArray(dtype, vocab * cols, 12);
      const out = output(device, dtype, ids.length * cols);
      const p = { table: upload(device, table), ids: upload(device, ids), tokens: 3, cols, vocab, dtype };
      embedding(device.stream, { out: out.ptr, scale: 6.34375, ...p });
      const expected = Array.from(ids).flatMap((id) =>
        Array.from(toNumbers(dtype, table.slice(id * cols, (id + 1) * cols)), (x) => x * 6.34375),
      );
      expect(relativeL2(out.numbers(), expected)).toBeLessThan(roundingTolerance(dtype));
    });
  }

  test("addresses that are not 16-byte aligned, and no tokens at all", () => {
    const table = randomArray(float16, vocab * 16 + 1, 13);
    const out = output(device, float16, 16);
    const p = { table: ptrAdd(upload(device, table), 2), ids: upload(device, Int32Array.of(9)), cols: 16, vocab };
    embedding(device.stream, { out: out.ptr, tokens: 0, dtype: float16, ...p });
    expect(out.numbers().every(Number.isNaN)).toBe(true);
    embedding(device.stream, { out: out.ptr, tokens: 1, dtype: float16, ...p });
    expect(out.stored()).toEqual(table.slice(1 + 9 * 16, 1 + 10 * 16));
  });

  test("an integer dtype is refused by name", () => {
    const p = { out: 0n as never, table: 0n as never, ids: 0n as never, tokens: 1, cols: 1, vocab: 1, dtype: int32 };
    expect(() => embedding(device.stream, p)).toThrow(/int32.*float32, float16 or bfloat16/);
  });
});
