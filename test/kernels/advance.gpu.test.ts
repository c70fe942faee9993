import { expect, test } from "vitest";
import { float32, int32 } from "../../src/base/dtype.ts";
import { ptrAdd } from "../../src/driver/api.ts";
import { advance, noToken } from "../../src/kernels/sampling/advance.ts";
import { sample, samplingWorkspaceBytes } from "../../src/kernels/sampling/sampling.ts";
import { distribution, pick, uniform } from "../reference/sampling.ts";
import { allocate, describeGpu, download, normals, output, upload, write } from "../support/gpu.ts";
import { unfiltered, uploadRows } from "./sampling-support.ts";

describeGpu("advance", (device) => {
  test("moves active rows on, stops rows without a block, leaves inactive rows alone, and publishes", () => {
    // Inside a block; into the next one; next block missing; past the table; inactive; failed sampling.
    const positions = [3, 15, 31, 47, 9, 20];
    const contexts = [4, 16, 32, 48, 0, 21];
    const table = Int32Array.from(
      [
        [5, 6, 7],
        [2, 9, 8],
        [1, 3, -1],
        [10, 11, 12],
        [13, 14, 15],
        [16, 17, 18],
      ].flat(),
    );
    const sampled = [100, 101, 102, 103, 104, -1];
    const rows = sampled.length;
    const i32 = (values: readonly number[]) => output(device, int32, values.length, Int32Array.from(values));
    const [ids, at, context] = [i32([0, 1, 2, 3, 4, 5]), i32(positions), i32(contexts)];
    const [slots, steps, step] = [i32(new Array(rows).fill(77)), i32([0, 1, 2, 3, 4, 5]), i32([6])];
    const ringStride = 8;
    const ringLength = 4;
    const host = device.allocatePinned(ringLength * ringStride * 4 + 4);
    new Int32Array(host.buffer, 0, ringLength * ringStride + 1).fill(-77);
    const ring = host.devicePtr;
    advance(device.stream, {
      sampled: upload(device, Int32Array.from(sampled)),
      tokenIds: ids.ptr,
      positions: at.ptr,
      contextLengths: context.ptr,
      slots: slots.ptr,
      steps: steps.ptr,
      blockTable: upload(device, table),
      maxBlocks: 3,
      ring,
      ringLength,
      ringStride,
      step: step.ptr,
      published: ptrAdd(ring, ringLength * ringStride * 4),
      rows,
    });
    device.stream.synchronize();
    const numbers = (o: typeof ids) => Array.from(o.numbers());
    expect(numbers(ids)).toEqual([100, 101, 102, 103, 4, -1]);
    expect(numbers(at)).toEqual([4, 16, 32, 48, 9, 21]);
    expect(numbers(context)).toEqual([5, 17, 0, 0, 0, 22]);
    expect(numbers(slots)).toEqual([5 * 16 + 4, 9 * 16, -1, -1, -1, 17 * 16 + 5]);
    expect(numbers(steps)).toEqual([1, 2, 3, 4, 4, 6]);
    expect(numbers(step)).toEqual([7]);
    const seen = Array.from(new Int32Array(host.buffer, 0, ringLength * ringStride + 1));
    const expected = new Array(ringLength * ringStride + 1).fill(-77);
    // Step 6 goes to row 6 % 4 of the ring.
    [100, 101, 102, 103, noToken, -1].forEach((token, b) => {
      expected[2 * ringStride + b] = token;
    });
    expected[ringLength * ringStride] = 7;
    expect(seen).toEqual(expected);
    host.dispose();
  });

  test("looks slots up in every group's table, and stops a row that lacks a block in one", () => {
    const rows = 3;
    const i32 = (values: readonly number[]) => output(device, int32, values.length, Int32Array.from(values));
    // Rows move to position 16, the first of their second block, which row 1 lacks in the first group and row 2 in the last.
    const tables = [
      [5, 6, 1, -1, 2, 9],
      [-1, 7, -1, 8, -1, 3],
      [4, 0, 1, 2, 3, -1],
    ];
    const [positions, contexts, slots] = [i32([15, 15, 15]), i32([16, 16, 16]), i32(new Array(9).fill(77))];
    const host = device.allocatePinned((rows + 1) * 4);
    const zeros = () => upload(device, new Int32Array(rows));
    advance(device.stream, {
      sampled: zeros(),
      tokenIds: zeros(),
      positions: positions.ptr,
      contextLengths: contexts.ptr,
      slots: slots.ptr,
      steps: zeros(),
      blockTable: upload(device, Int32Array.from(tables.flat())),
      maxBlocks: 2,
      groups: 3,
      ring: host.devicePtr,
      ringLength: 1,
      step: zeros(),
      published: ptrAdd(host.devicePtr, rows * 4),
      rows,
    });
    device.stream.synchronize();
    expect(Array.from(contexts.numbers())).toEqual([17, 0, 0]);
    expect(Array.from(slots.numbers())).toEqual([6 * 16, -1, -1, 7 * 16, -1, -1, 0, -1, -1]);
    host.dispose();
  });

  test("a captured sample and advance draws a new token at each replay, from counters in device memory", () => {
    const [vocab, rows, replays, ringLength] = [500, 3, 5, 8];
    const logits = normals(vocab, 6).map((x) => Math.fround(2 * x));
    const parameters = Array.from({ length: rows }, (_, b) => ({ ...unfiltered, seed: BigInt(b), step: 10 * b }));
    const uploaded = uploadRows(device, parameters);
    const ints = (value: number) => upload(device, new Int32Array(rows).fill(value));
    const [tokens, tokenIds, positions, contextLengths, slots] = [ints(0), ints(0), ints(2), ints(3), ints(0)];
    const step = upload(device, Uint32Array.of(0));
    const host = device.allocatePinned(ringLength * rows * 4 + 4);
    const published = new Uint32Array(host.buffer, ringLength * rows * 4, 1);
    published[0] = 0;
    const source = upload(device, Float32Array.from(logits));
    const workspace = allocate(device, samplingWorkspaceBytes(rows, vocab));
    const blockTable = upload(
      device,
      Int32Array.from({ length: rows }, (_, b) => 10 + b),
    );
    const submit = () => {
      sample(device.stream, { logits: source, logitsStride: 0, vocab, dtype: float32, workspace, tokens, ...uploaded });
      advance(device.stream, {
        sampled: tokens,
        tokenIds,
        positions,
        contextLengths,
        slots,
        steps: uploaded.steps,
        blockTable,
        maxBlocks: 1,
        ring: host.devicePtr,
        ringLength,
        step,
        published: ptrAdd(host.devicePtr, ringLength * rows * 4),
        rows,
      });
    };
    // Modules are loaded by a first run, which capture does not allow; its effects are undone.
    submit();
    device.stream.synchronize();
    write(
      device,
      uploaded.steps,
      Uint32Array.from(parameters, (r) => r.step),
    );
    write(device, step, Uint32Array.of(0));
    write(device, positions, new Int32Array(rows).fill(2));
    write(device, contextLengths, new Int32Array(rows).fill(3));

    const graph = device.stream.capture(submit);
    const executable = graph.instantiate();
    for (let i = 0; i < replays; i++) executable.launch(device.stream);
    device.stream.synchronize();

    expect(published[0]).toBe(replays);
    const ring = new Int32Array(host.buffer, 0, replays * rows);
    const probabilities = distribution(logits, unfiltered);
    const expected = Array.from({ length: replays }, (_, i) =>
      parameters.map((r) => pick(logits, probabilities, uniform(r.seed, r.step + i))),
    );
    expect(Array.from(ring)).toEqual(expected.flat());
    expect(Array.from(download(device, positions, int32, rows) as Int32Array)).toEqual([7, 7, 7]);
    expect(Array.from(download(device, slots, int32, rows) as Int32Array)).toEqual([10, 11, 12].map((b) => b * 16 + 7));
    executable.dispose();
    graph.dispose();
    host.dispose();
  });
});
