import { afterEach, beforeEach, expect, test } from "vitest";
import { StateError } from "../../src/base/errors.ts";
import type { Device } from "../../src/driver/device.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { keep, tidy } from "../../src/tensor/tidy.ts";
import { type FakeDriver, fakeDevice } from "../support/fake-driver.ts";

let driver: FakeDriver;
let device: Device;

beforeEach(() => {
  ({ driver, device } = fakeDevice());
});

afterEach(() => {
  expect(device.memory.statistics().liveBuffers).toBe(0);
  device.dispose();
  expect(driver.leaks).toEqual([]);
});

const make = () => Tensor.empty([2, 3], { device });

test("disposes what is not returned", () => {
  const outside = make();
  let inside: Tensor | undefined;
  const result = tidy(() => {
    inside = make();
    const view = outside.transpose(0, 1);
    expect(view.disposed).toBe(false);
    return make();
  });
  expect(inside?.disposed).toBe(true);
  expect(outside.disposed).toBe(false);
  expect(result.disposed).toBe(false);
  expect(device.memory.statistics().liveBuffers).toBe(2);
  outside.dispose();
  result.dispose();
});

test("keeps tensors in arrays and records, at any depth, and views whose base goes", () => {
  const { list, nested, count } = tidy(() => {
    const base = make();
    return { list: [make(), base.select(0, 1)], nested: { deep: [{ x: make() }] }, count: 3 };
  });
  const all = [...list, nested.deep[0]!.x];
  expect(all.map((x) => x.disposed)).toEqual([false, false, false]);
  expect(count).toBe(3);
  for (const x of all) x.dispose();
});

test("nests: what an inner call returns belongs to the outer", () => {
  let inner: Tensor | undefined;
  const outer = tidy(() => {
    inner = tidy(() => make());
    expect(inner.disposed).toBe(false);
    return make();
  });
  expect(inner?.disposed).toBe(true);
  outer.dispose();
});

test("disposes everything when the function throws, and leaves no scope open", () => {
  let inside: Tensor | undefined;
  expect(() =>
    tidy(() => {
      inside = make();
      throw new Error("inside");
    }),
  ).toThrow("inside");
  expect(inside?.disposed).toBe(true);
  const after = make();
  tidy(() => {});
  expect(after.disposed).toBe(false);
  after.dispose();
});

test("refuses asynchronous functions", () => {
  let inside: Tensor | undefined;
  const run = () =>
    tidy(async () => {
      inside = make();
    });
  expect(run).toThrow(StateError);
  expect(inside?.disposed).toBe(true);
});

test("what was kept or disposed inside is left alone", () => {
  let kept: Tensor | undefined;
  tidy(() => {
    kept = keep(make());
    make().dispose();
    using other = make();
    expect(other.disposed).toBe(false);
  });
  expect(kept?.disposed).toBe(false);
  kept?.dispose();
});
