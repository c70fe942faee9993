import { expect, test } from "vitest";
import { bfloat16, type DType, float16, float32, type HostArray } from "../../src/base/dtype.ts";
import type { Device } from "../../src/driver/device.ts";
import { type AttentionArgs, attentionWorkspaceBytes, pagedAttention } from "../../src/kernels/attention/attention.ts";
import {
  allocate,
  describeGpu,
  output,
  poison,
  relativeL2,
  roundingTolerance,
  toNumbers,
  upload,
  write,
} from "../support/gpu.ts";
import { aloneOf, attentionReference, type BatchShape, type PagedBatch, pagedBatch } from "./paged-batch.ts";

const dtypes = [float32, float16, bfloat16];

/**
 * A score is a sum of D products whose error, about 1e-6 here, the exponential turns into a relative error of the weight:
 * eight of float32's units. The 16-bit types round the weights (tensor cores) and the result.
 */
function tolerance(dtype: DType): number {
  return roundingTolerance(dtype, dtype === float32 ? 8 : 2);
}

/** The batch on the device, with its output and workspace. `slack` raises the bounds that size the grids. */
function prepare(device: Device, batch: PagedBatch, slack = { query: 0, context: 0 }) {
  const shape = {
    sequences: batch.sequences.length,
    maxQuery: Math.max(...batch.sequences.map(([queries]) => queries)) + slack.query,
    maxContext: Math.max(...batch.sequences.map(([, context]) => context)) + slack.context,
    heads: batch.heads,
    kvHeads: batch.kvHeads,
    headDim: batch.headDim,
    ...(batch.window ? { window: batch.window } : {}),
  };
  const workspace = output(device, float32, attentionWorkspaceBytes(shape) / 4);
  const out = output(device, batch.dtype, batch.tokens * batch.heads * batch.headDim);
  const args: AttentionArgs = {
    ...shape,
    out: out.ptr,
    query: upload(device, batch.query),
    queryStride: batch.queryStride,
    keyCache: upload(device, batch.keyCache),
    valueCache: upload(device, batch.valueCache),
    queryStarts: upload(device, batch.queryStarts),
    contextLengths: upload(device, batch.contextLengths),
    blockTable: upload(device, batch.blockTable),
    maxBlocks: batch.maxBlocks,
    scale: batch.scale,
    softcap: batch.softcap ?? 0,
    workspace: workspace.ptr,
    dtype: batch.dtype,
  };
  return { args, out, workspace };
}

function attend(device: Device, batch: PagedBatch, slack?: { query: number; context: number }): HostArray {
  const { args, out, workspace } = prepare(device, batch, slack);
  pagedAttention(device.stream, args);
  workspace.stored(); // its canaries
  return out.stored();
}

function errorOf(device: Device, shape: BatchShape, slack?: { query: number; context: number }): number {
  const batch = pagedBatch(shape);
  return relativeL2(toNumbers(batch.dtype, attend(device, batch, slack)), attentionReference(batch));
}

const decodeContexts = [1, 15, 16, 17, 63, 64, 65, 255, 256, 257, 1030];
const decodeBatch = decodeContexts.map((context) => [1, context] as const);
/** Decode, a few new tokens, whole prompts, and chunks of prompts behind a context; sequences with nothing new between. */
const mixedBatch = [
  [1, 1],
  [9, 9],
  [0, 0],
  [1, 130],
  [8, 100],
  [33, 33],
  [0, 20],
  [70, 203],
  [2, 18],
  [21, 300],
] as const;

const headShapes: readonly (readonly [heads: number, kvHeads: number, headDim: number])[] = [
  [2, 2, 64],
  [4, 2, 64],
  [8, 2, 128],
  [7, 1, 80],
  [8, 1, 128],
  [3, 1, 96],
  [2, 1, 256],
  [12, 1, 16],
  [2, 1, 8],
];

describeGpu("paged attention", (device) => {
  for (const dtype of dtypes) {
    for (const [heads, kvHeads, headDim] of headShapes) {
      const shape = { heads, kvHeads, headDim, dtype };
      const name = `${dtype.short}, ${heads} heads over ${kvHeads} of ${headDim}`;
      test(`decode against float64, ${name}`, () => {
        expect(errorOf(device, { ...shape, sequences: decodeBatch, seed: 1 })).toBeLessThan(tolerance(dtype));
      });
      test(`mixed batch against float64, ${name}`, () => {
        expect(errorOf(device, { ...shape, sequences: mixedBatch, seed: 2 })).toBeLessThan(tolerance(dtype));
      });
    }

    test(`chunks of more than 64 tokens, ${dtype.short}`, () => {
      const sequences = [[1, 4097] as const, [2, 9000] as const];
      const shape = { sequences, heads: 4, kvHeads: 1, headDim: 16, dtype, seed: 3 };
      expect(errorOf(device, shape, { query: 0, context: 20000 })).toBeLessThan(tolerance(dtype));
    });

    test.each([1, 16, 50, 1000])(`sliding window of %i, ${dtype.short}`, (window) => {
      const shape = { sequences: [...mixedBatch, [1, 400] as const], heads: 4, kvHeads: 2, headDim: 64, dtype };
      expect(errorOf(device, { ...shape, window, seed: 4 })).toBeLessThan(tolerance(dtype));
    });

    test.each([1.5, 30])(`softcap of %f, ${dtype.short}`, (softcap) => {
      const shape = { sequences: mixedBatch, heads: 2, kvHeads: 1, headDim: 64, dtype };
      expect(errorOf(device, { ...shape, softcap, seed: 5 })).toBeLessThan(tolerance(dtype));
    });

    // Gemma 2 has all three at once; the heads and windows are of models, the contexts lie on both sides of the window.
    test.each([
      [2, 1, 256, 32, 96],
      [4, 2, 256, 100, 224],
      [8, 2, 128, 33, 128],
      [3, 1, 96, 64, 96],
    ])(`window, softcap and scale together, %i heads over %i of %i, window %i, ${dtype.short}`, (...numbers) => {
      const [heads, kvHeads, headDim, window, scalar] = numbers;
      const sequences = [...mixedBatch, [1, window] as const, [1, window + 1] as const, [9, window + 8] as const];
      const shape = { sequences, heads, kvHeads, headDim, dtype, window, scale: 1 / Math.sqrt(scalar), softcap: 5 };
      expect(errorOf(device, { ...shape, seed: 12 })).toBeLessThan(tolerance(dtype));
    });

    test.each([0, 40])(
      `a sequence gives the same bits alone, in a batch, and under larger bounds, window %i, ${dtype.short}`,
      (window) => {
        const sequences = [...mixedBatch.filter(([queries]) => queries > 0), [1, 700] as const, [3, 90] as const];
        const batch = pagedBatch({ sequences, heads: 8, kvHeads: 2, headDim: 64, dtype, window, seed: 6 });
        const together = attend(device, batch);
        const generous = attend(device, batch, { query: 100, context: 3000 });
        expect(generous).toEqual(together);
        sequences.forEach((_, b) => {
          const row = batch.heads * batch.headDim;
          const own = together.slice(batch.queryStarts[b]! * row, batch.queryStarts[b + 1]! * row);
          expect(attend(device, aloneOf(batch, b))).toEqual(own);
        });
      },
    );
  }

  test("scores that rise along the context, so that the maximum keeps changing", () => {
    const batch = pagedBatch({
      sequences: [
        [1, 500],
        [40, 500],
      ],
      heads: 2,
      kvHeads: 1,
      headDim: 64,
      dtype: float32,
      seed: 7,
    });
    batch.sequences.forEach(([, context], b) => {
      for (let p = 0; p < context; p++) {
        const block = batch.blockTable[b * batch.maxBlocks + Math.floor(p / 16)]!;
        for (let d = 0; d < 64; d++) batch.keyCache[(block * 16 + (p % 16)) * 64 + d] = p / 500;
      }
    });
    batch.query.fill(1 as never);
    expect(relativeL2(attend(device, batch) as Float32Array, attentionReference(batch))).toBeLessThan(
      tolerance(float32),
    );
  });

  test("a captured step follows the lengths and tables that it finds when it is replayed", () => {
    const shape = { heads: 4, kvHeads: 2, headDim: 64, dtype: float16 };
    const short = pagedBatch({
      ...shape,
      sequences: [
        [1, 20],
        [1, 100],
      ],
      seed: 8,
    });
    const long = pagedBatch({
      ...shape,
      sequences: [
        [1, 21],
        [1, 600],
      ],
      seed: 9,
    });
    const { args, out } = prepare(device, long, { query: 0, context: 1000 });
    pagedAttention(device.stream, args); // loads the modules
    // One cache serves both: the longer batch has more blocks than the shorter one's tables name.
    const captured = device.stream.capture(() => pagedAttention(device.stream, args));
    const graph = captured.instantiate();
    const expected = attend(device, short);
    write(device, args.query, short.query);
    write(device, args.keyCache, short.keyCache);
    write(device, args.valueCache, short.valueCache);
    write(device, args.contextLengths, short.contextLengths);
    const table = new Int32Array(long.blockTable.length);
    for (let b = 0; b < 2; b++) {
      table.set(short.blockTable.subarray(b * short.maxBlocks, (b + 1) * short.maxBlocks), b * long.maxBlocks);
    }
    write(device, args.blockTable, table);
    graph.launch(device.stream);
    expect(out.stored()).toEqual(expected);
    graph.dispose();
    captured.dispose();
  });

  test.each([...dtypes])("what is read before the previous kernel has ended changes no bit, %o", (dtype) => {
    for (const [headDim, window] of [
      [64, 0],
      [128, 40],
      [256, 0],
    ] as const) {
      const sequences = [...mixedBatch, [1, headDim === 64 ? 4200 : 200] as const, [8, 70] as const];
      const batch = pagedBatch({ heads: 4, kvHeads: 2, headDim, dtype, sequences, window, seed: 13 });
      const { args, out } = prepare(device, batch);
      pagedAttention(device.stream, { ...args, settled: true });
      expect(out.stored()).toEqual(attend(device, batch));
    }
  });

  test.each([...dtypes])("no split path where no sequence has few new tokens: the same bits, %o", (dtype) => {
    const sequences = [
      [9, 9],
      [33, 40],
      [21, 300],
    ] as const;
    const batch = pagedBatch({ heads: 4, kvHeads: 2, headDim: 64, dtype, sequences, seed: 11 });
    const { args, out } = prepare(device, batch);
    pagedAttention(device.stream, { ...args, minQuery: 9 });
    expect(out.stored()).toEqual(attend(device, batch));
  });

  test("an empty batch launches nothing", () => {
    const shape = { sequences: 0, maxQuery: 1, maxContext: 1, heads: 2, kvHeads: 1, headDim: 64 };
    const p = allocate(device, 4);
    poison(device, p, 4);
    expect(attentionWorkspaceBytes(shape)).toBe(0);
    const pointers = { out: p, query: p, keyCache: p, valueCache: p, queryStarts: p, contextLengths: p, blockTable: p };
    pagedAttention(device.stream, {
      ...shape,
      ...pointers,
      queryStride: 0,
      maxBlocks: 0,
      scale: 1,
      workspace: p,
      dtype: float32,
    });
    device.synchronize();
  });
});
