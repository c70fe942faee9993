import { expect, test } from "vitest";
import { bfloat16, type DType, float16, float32, type HostArray } from "../../src/base/dtype.ts";
import type { DevicePtr } from "../../src/driver/api.ts";
import {
  type LoraEntry,
  type LoraSums,
  loraEntry,
  loraEntryWords,
  loraExpand,
  loraGate,
  loraShrink,
  loraSplit,
} from "../../src/kernels/lora/lora.ts";
import { leastRows } from "../../src/kernels/lora/tiles.ts";
import {
  allocate,
  bits,
  describeGpu,
  output,
  poison,
  random,
  randomArray,
  relativeL2,
  roundingTolerance,
  toNumbers,
  upload,
} from "../support/gpu.ts";

interface Case {
  readonly dtype: DType;
  readonly rows: number;
  readonly k: number;
  /** Rows of the weight's parts. */
  readonly widths: readonly number[];
  /** Rank of each adapter at each part; 0 where it has none. */
  readonly ranks: readonly (readonly number[])[];
}

const ranks = [
  [8, 0, 24],
  [3, 16, 0],
  [0, 5, 1],
];
const cases: Case[] = [float32, float16, bfloat16].flatMap((dtype) => [
  { dtype, rows: 1, k: 64, widths: [40], ranks: [[16]] },
  { dtype, rows: 7, k: 100, widths: [40, 9, 77], ranks },
  { dtype, rows: 71, k: 264, widths: [136, 64, 8], ranks },
  { dtype, rows: 130, k: 37, widths: [65, 130, 3], ranks },
  {
    dtype,
    rows: 3,
    k: 2304,
    widths: [70, 60],
    ranks: [
      [80, 4],
      [0, 72],
    ],
  },
  {
    dtype,
    rows: 20,
    k: 520,
    widths: [70, 60],
    ranks: [
      [38, 40],
      [8, 0],
      [5, 16],
    ],
  },
  {
    dtype,
    rows: 75,
    k: 544,
    widths: [70, 60],
    ranks: [
      [38, 40],
      [8, 0],
      [5, 16],
    ],
  },
  { dtype, rows: 33, k: 64, widths: [150], ranks: [[136], [8]] },
  { dtype, rows: 270, k: 96, widths: [36], ranks: [[38], [80]] }, // 64 ranks a block
]);

interface Factors {
  readonly a: HostArray;
  readonly b: HostArray;
  readonly entry: LoraEntry;
}

describeGpu("low-rank adapters", (device) => {
  /** Runs of rows with one adapter, or none, as prompts of several requests lie in a pass. */
  function slotsOf({ rows, ranks: all }: Case): Int32Array {
    const next = random(rows);
    let slot = -1;
    return Int32Array.from({ length: rows }, () => {
      if (next() < 0.4) slot = Math.floor(next() * (all.length + 1)) - 1;
      return slot;
    });
  }

  function factorsOf({ dtype, k, widths, ranks: all }: Case): (Factors | undefined)[][] {
    return all.map((own, slot) => {
      let begin = 0;
      return widths.map((width, part) => {
        const rank = own[part]!;
        const at = begin;
        begin += width;
        if (rank === 0) return undefined;
        const a = randomArray(dtype, rank * k, 10 * slot + part + 1);
        const b = randomArray(dtype, width * rank, 10 * slot + part + 101);
        const scale = 0.001 * (slot + 1); // small enough for float16 to hold a gate times an up
        const entry = { a: upload(device, a), b: upload(device, b), rank, scale, begin: at, width };
        return { a, b, entry };
      });
    });
  }

  function tableOf(factors: readonly (readonly (Factors | undefined)[])[]): DevicePtr {
    const parts = factors[0]!.length;
    const words = new BigInt64Array(factors.length * parts * loraEntryWords);
    for (const [slot, own] of factors.entries()) {
      for (const [part, f] of own.entries()) words.set(loraEntry(f?.entry), (slot * parts + part) * loraEntryWords);
    }
    return upload(device, words);
  }

  /** What the adapters add to y [rows, N], in float64. */
  function deltas(c: Case, x: Float64Array, slots: Int32Array, factors: readonly (readonly (Factors | undefined)[])[]) {
    const n = c.widths.reduce((sum, width) => sum + width, 0);
    const result = new Float64Array(c.rows * n);
    for (const [row, slot] of slots.entries()) {
      for (const f of slot < 0 ? [] : factors[slot]!) {
        if (!f) continue;
        const { rank, scale, begin, width } = f.entry;
        const [a, b] = [toNumbers(c.dtype, f.a), toNumbers(c.dtype, f.b)];
        const h = Array.from({ length: rank }, (_, r) => {
          let sum = 0;
          for (let i = 0; i < c.k; i++) sum += x[row * c.k + i]! * a[r * c.k + i]!;
          return sum;
        });
        for (let col = 0; col < width; col++) {
          let sum = 0;
          for (let r = 0; r < rank; r++) sum += h[r]! * b[col * rank + r]!;
          result[row * n + begin + col] = scale * sum;
        }
      }
    }
    return { n, result };
  }

  function shrink(input: Parameters<typeof loraSplit>[1]): LoraSums {
    const split = loraSplit(device, input);
    const hBytes = split * input.rows * input.parts * input.maxRank * 4;
    const h = allocate(device, hBytes);
    poison(device, h, hBytes);
    loraShrink(device.stream, { ...input, h, split });
    return { h, split };
  }

  function setUp(c: Case) {
    const factors = factorsOf(c);
    const slots = slotsOf(c);
    const x = randomArray(c.dtype, c.rows * c.k, 7);
    const maxRank = Math.max(...c.ranks.flat());
    const table = tableOf(factors);
    const rows = { table, slots: upload(device, slots), rows: c.rows, parts: c.widths.length, maxRank, dtype: c.dtype };
    const sums = shrink({ ...rows, x: upload(device, x), cols: c.k });
    return { slots, x, rows: { ...rows, ...sums }, ...deltas(c, toNumbers(c.dtype, x), slots, factors) };
  }

  test.each(cases)("$dtype.name: $rows rows of $k, parts of $widths", (c) => {
    const { slots, rows, n, result } = setUp(c);
    const before = randomArray(c.dtype, c.rows * n, 8);
    const y = output(device, c.dtype, c.rows * n, before);
    loraExpand(device.stream, { ...rows, y: y.ptr, cols: n });
    const expected = toNumbers(c.dtype, before).map((value, i) => value + result[i]!);
    const rounding = c.dtype === float32 ? 0 : roundingTolerance(c.dtype, 0.5);
    expect(relativeL2(y.numbers(), expected) < rounding + 1e-6).toBe(true);

    const rowBits = (array: HostArray, row: number) => bits(array.slice(row * n, (row + 1) * n) as HostArray);
    const after = y.stored();
    for (const [row, slot] of slots.entries()) if (slot < 0) expect(rowBits(after, row)).toEqual(rowBits(before, row));
  });

  // Or, of as many rows as tensor cores may take, among copies of itself.
  test.each(cases)("$dtype.name: a row of $rows has the bits that it has alone", (c) => {
    const copies = c.rows >= leastRows ? leastRows : 1;
    const repeated = (array: HostArray): HostArray => {
      const all = c.dtype.array(array.length * copies);
      for (let i = 0; i < copies; i++) all.set(array as never, i * array.length);
      return all;
    };
    const { slots, x, rows, n } = setUp(c);
    const before = randomArray(c.dtype, c.rows * n, 8);
    const y = output(device, c.dtype, c.rows * n, before);
    loraExpand(device.stream, { ...rows, y: y.ptr, cols: n });
    const together = y.stored();
    for (const row of [0, Math.floor(c.rows / 2), c.rows - 1]) {
      const part = (array: HostArray, width: number) => array.slice(row * width, (row + 1) * width) as HostArray;
      const own = new Int32Array(copies).fill(slots[row]!);
      const alone = { ...rows, rows: copies, slots: upload(device, own) };
      const sums = shrink({ ...alone, x: upload(device, repeated(part(x, c.k))), cols: c.k });
      const single = output(device, c.dtype, copies * n, repeated(part(before, n)));
      loraExpand(device.stream, { ...alone, ...sums, y: single.ptr, cols: n });
      expect(bits(single.stored())).toEqual(bits(repeated(part(together, n))));
    }
  });

  test.each([float16, bfloat16])("$name: the parts of K add up to the sums of the whole, in order", (dtype) => {
    const c: Case = {
      dtype,
      rows: 40,
      k: 2144,
      widths: [8, 8],
      ranks: [
        [38, 5],
        [0, 16],
      ],
    };
    const x = upload(device, randomArray(dtype, c.rows * c.k, 7));
    const slots = upload(device, slotsOf(c));
    const shape = { rows: c.rows, parts: 2, maxRank: 38, dtype };
    const table = tableOf(factorsOf(c));
    const count = shape.rows * shape.parts * shape.maxRank;
    const sums = [1, 3].map((split) => {
      const h = output(device, float32, split * count, new Float32Array(split * count));
      loraShrink(device.stream, { ...shape, table, slots, x, cols: c.k, h: h.ptr, split });
      const parts = h.numbers();
      return Array.from({ length: count }, (_, i) => {
        let sum = 0;
        for (let s = 0; s < split; s++) sum = Math.fround(sum + parts[s * count + i]!);
        return sum;
      });
    });
    expect(sums[1]).toEqual(sums[0]);
    expect(sums[0]!.some((sum) => sum !== 0)).toBe(true);
  });

  const gated = [float32, float16, bfloat16].flatMap((dtype) =>
    [
      {
        dtype,
        rows: 5,
        k: 64,
        widths: [45, 45],
        ranks: [
          [8, 0],
          [0, 3],
          [16, 2],
        ],
      },
      { dtype, rows: 66, k: 100, widths: [260], ranks: [[8], [5]] },
    ].flatMap((c) => (["silu", "gelu"] as const).map((activation) => ({ ...c, activation }))),
  );
  test.each(gated)("$dtype.name, $activation of gates: $rows rows of $k, parts of $widths", (c) => {
    const { rows, n, result } = setUp(c);
    const z = randomArray(float32, c.rows * n, 9) as Float32Array;
    const f = n / 2;
    const out = output(device, c.dtype, c.rows * f);
    const halves = upload(device, z);
    loraGate(device.stream, { ...rows, out: out.ptr, z: halves, cols: f, activation: c.activation });
    const sigmoid = (v: number) => 1 / (1 + Math.exp(-v));
    const act = (v: number) =>
      v * sigmoid(c.activation === "silu" ? v : 2 * Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3));
    const expected = Float64Array.from({ length: c.rows * f }, (_, i) => {
      const at = Math.floor(i / f) * n + (i % f);
      return act(z[at]! + result[at]!) * (z[at + f]! + result[at + f]!);
    });
    const rounding = c.dtype === float32 ? 0 : roundingTolerance(c.dtype, 0.5);
    expect(relativeL2(out.numbers(), expected) < rounding + 2e-6).toBe(true);
  });
});
