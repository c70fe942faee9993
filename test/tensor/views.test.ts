import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ArgumentError, ShapeError } from "../../src/base/errors.ts";
import type { Device } from "../../src/driver/device.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { type FakeDriver, fakeDevice } from "../support/fake-driver.ts";
import { random } from "../support/numerics.ts";
import { indices } from "./reference.ts";

let driver: FakeDriver;
let device: Device;

beforeAll(() => {
  ({ driver, device } = fakeDevice());
});

afterAll(() => {
  expect(device.memory.statistics().liveBuffers).toBe(0);
  device.dispose();
  expect(driver.leaks).toEqual([]);
});

/** A tensor whose element n, in memory order, is n: then a view's element is its offset. */
function make(...shape: number[]): Tensor {
  return Tensor.empty(shape, { device });
}

/** The offsets of a view's elements, row by row. */
function offsets(x: Tensor): number[] {
  return indices(x.shape).map((index) => index.reduce((sum, i, d) => sum + i * x.strides[d]!, x.offset));
}

/** Disposes the tensor and gives what is to be compared. */
function seen(x: Tensor): { shape: readonly number[]; offsets: number[] } {
  const result = { shape: x.shape, offsets: offsets(x) };
  x.dispose();
  return result;
}

describe("views", () => {
  test("share memory, which is freed with the last of them", () => {
    const x = make(2, 3);
    const y = x.transpose(0, 1);
    expect(y.storage).toBe(x.storage);
    x.dispose();
    x.dispose();
    expect(device.memory.statistics().liveBuffers).toBe(1);
    expect(y.ptr).toBeDefined();
    expect(() => x.ptr).toThrow(/Tensor \[2, 3\] float32: used after dispose\(\)/);
    y.dispose();
    expect(device.memory.statistics().liveBuffers).toBe(0);
  });

  test("transpose and permute reorder", () => {
    using x = make(2, 3);
    expect(seen(x.transpose(0, 1))).toEqual({ shape: [3, 2], offsets: [0, 3, 1, 4, 2, 5] });
    expect(seen(x.transpose(-1, -1))).toEqual({ shape: [2, 3], offsets: [0, 1, 2, 3, 4, 5] });
    using y = make(2, 1, 3);
    using p = y.permute(2, 0, 1);
    expect(p.shape).toEqual([3, 2, 1]);
    expect(offsets(p)).toEqual([0, 3, 1, 4, 2, 5]);
    expect(() => y.permute(0, 1)).toThrow(/permute: \[0, 1\] does not order the dimensions of \[2, 1, 3\]/);
    expect(() => y.permute([0, 1, 1])).toThrow(ShapeError);
    expect(() => y.transpose(0, 3)).toThrow(/dimension 3 does not exist for shape \[2, 1, 3\]; expected -3 to 2/);
  });

  test("slice clamps as Python does, with negative bounds and steps over elements", () => {
    using x = make(10);
    expect(seen(x.slice(0, 2, 5)).offsets).toEqual([2, 3, 4]);
    expect(seen(x.slice(0, -3)).offsets).toEqual([7, 8, 9]);
    expect(seen(x.slice(0, 1, -1, 3)).offsets).toEqual([1, 4, 7]);
    expect(seen(x.slice(0, -100, 100, 4)).offsets).toEqual([0, 4, 8]);
    expect(seen(x.slice(0, 7, 3))).toEqual({ shape: [0], offsets: [] });
    expect(() => x.slice(0, 0, 5, 0)).toThrow(ArgumentError);
    expect(() => x.slice(0, 0.5)).toThrow(/bounds must be whole/);
    using rank0 = make();
    expect(() => rank0.slice(0)).toThrow(/slice: a tensor of shape \[\]/);
  });

  test("narrow and select check their bounds", () => {
    using x = make(4, 3);
    expect(seen(x.narrow(0, 1, 2))).toEqual({ shape: [2, 3], offsets: [3, 4, 5, 6, 7, 8] });
    expect(seen(x.narrow(1, -1, 1)).offsets).toEqual([2, 5, 8, 11]);
    expect(seen(x.select(1, -1))).toEqual({ shape: [4], offsets: [2, 5, 8, 11] });
    expect(() => x.narrow(0, 3, 2)).toThrow(/narrow: 2 elements from 3 on do not lie within dimension 0 of \[4, 3\]/);
    expect(() => x.select(0, 4)).toThrow(/select: index 4 is outside dimension 0 of \[4, 3\], which has 4/);
    expect(() => x.select(0, -5)).toThrow(ShapeError);
  });

  test("expand repeats without copying", () => {
    using x = make(3, 1);
    using y = x.expand(2, -1, 4);
    expect(y.shape).toEqual([2, 3, 4]);
    expect(y.strides).toEqual([0, 1, 0]);
    expect(y.isContiguous).toBe(false);
    expect(() => x.expand(4, 4)).toThrow(/expand: \[3, 1\] does not expand to \[4, 4\]/);
    expect(() => x.expand(3)).toThrow(ShapeError);
    expect(() => x.expand(-1, 3, 1)).toThrow(ShapeError);
    using one = make();
    expect(seen(one.expand(2, 2)).offsets).toEqual([0, 0, 0, 0]);
  });

  test("squeeze, unsqueeze and flatten change the rank", () => {
    using x = make(1, 2, 1, 3);
    expect(seen(x.squeeze()).shape).toEqual([2, 3]);
    expect(seen(x.squeeze(0)).shape).toEqual([2, 1, 3]);
    expect(seen(x.squeeze([0, 1, -2])).shape).toEqual([2, 3]);
    expect(seen(x.unsqueeze(-1)).shape).toEqual([1, 2, 1, 3, 1]);
    expect(seen(x.unsqueeze(0)).shape).toEqual([1, 1, 2, 1, 3]);
    expect(seen(x.flatten()).shape).toEqual([6]);
    expect(seen(x.flatten(1, 2)).shape).toEqual([1, 2, 3]);
    expect(() => x.unsqueeze(5)).toThrow(/dimension 5 does not exist/);
    expect(() => x.flatten(2, 1)).toThrow(/flatten: dimension 2 comes after dimension 1/);
    using one = make();
    expect(seen(one.flatten()).shape).toEqual([1]);
    expect(seen(one.unsqueeze(0)).shape).toEqual([1]);
    expect(seen(one.squeeze()).shape).toEqual([]);
  });

  test("view finds strides wherever no copy is needed, and says when one is", () => {
    using x = make(4, 6);
    expect(seen(x.view(2, 2, 3, 2)).offsets).toEqual([...Array(24).keys()]);
    expect(seen(x.view(-1)).shape).toEqual([24]);
    expect(seen(x.view([8, -1])).shape).toEqual([8, 3]);
    using rows = x.narrow(1, 0, 4); // rows of 4 in steps of 6
    expect(seen(rows.view(4, 2, 2)).offsets).toEqual([0, 1, 2, 3, 6, 7, 8, 9, 12, 13, 14, 15, 18, 19, 20, 21]);
    expect(() => rows.view(16)).toThrow(
      /view: \[4, 4\] with strides \[6, 1\] does not lie in memory as \[16\]; use reshape/,
    );
    expect(() => x.view(5, 5)).toThrow(/view: \[4, 6\] has 24 elements and does not fit \[5, 5\]/);
    expect(() => x.view(-1, -1)).toThrow(ShapeError);
    expect(() => x.view(-1, 5)).toThrow(ShapeError);
    expect(() => x.view(2.5, -1)).toThrow(ShapeError);
  });

  test("empty tensors and rank 0 have views too", () => {
    using empty = make(0, 3);
    expect(seen(empty.view(3, 0)).shape).toEqual([3, 0]);
    expect(seen(empty.transpose(0, 1)).shape).toEqual([3, 0]);
    expect(seen(empty.expand(2, 0, 3)).shape).toEqual([2, 0, 3]);
    expect(() => empty.view(-1, 0)).toThrow(ShapeError);
    expect(empty.isContiguous).toBe(true);
    using one = make();
    expect(one.size).toBe(1);
    expect(seen(one.view(1, 1)).shape).toEqual([1, 1]);
    expect(seen(one.permute([])).shape).toEqual([]);
  });

  test("random chains of views never leave the memory, and view agrees with the order of elements", () => {
    const next = random(11);
    const pick = (n: number) => Math.floor(next() * n);
    for (let round = 0; round < 300; round++) {
      const base = make(...Array.from({ length: 1 + pick(4) }, () => 1 + pick(5)));
      let x = base.alias(base);
      for (let step = 0; step < 5; step++) {
        const before = x;
        const dim = pick(Math.max(1, x.rank));
        const kind = pick(6);
        if (x.rank === 0 || kind === 0) x = x.unsqueeze(pick(x.rank + 1));
        else if (kind === 1) x = x.transpose(dim, pick(x.rank));
        else if (kind === 2) x = x.slice(dim, pick(x.shape[dim]! + 1), undefined, 1 + pick(2));
        else if (kind === 3 && x.shape[dim]! > 0) x = x.select(dim, pick(x.shape[dim]!));
        else if (kind === 4 && x.rank < 5) x = x.expand(1 + pick(2), ...x.shape);
        else x = x.squeeze();
        before.dispose();
        for (const at of offsets(x)) {
          expect(at >= 0 && at < base.size).toBe(true);
        }
      }
      const shape = x.size > 0 && x.size % 2 === 0 ? [2, x.size / 2] : [x.size];
      const order = offsets(x);
      try {
        using y = x.view(shape);
        expect(offsets(y)).toEqual(order);
      } catch (error) {
        expect(error).toBeInstanceOf(ShapeError);
        expect(x.isContiguous).toBe(false);
      }
      x.dispose();
      base.dispose();
    }
  });

  test("addresses beyond 2^32 bytes are exact", () => {
    // Layouts are numbers: nothing here allocates the 12 GiB that the last row would need.
    using x = make(4);
    using far = x.alias({ shape: [1], strides: [1], offset: 3 * 2 ** 30 });
    expect(far.ptr - x.ptr).toBe(3n * 2n ** 32n);
  });
});
