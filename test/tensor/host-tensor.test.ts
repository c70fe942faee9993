import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bfloat16, bool, float16, float32, int32, int64, uint8 } from "../../src/base/dtype.ts";
import { ArgumentError, DTypeError, ShapeError, StateError } from "../../src/base/errors.ts";
import type { Device } from "../../src/driver/device.ts";
import { HostTensor } from "../../src/tensor/host-tensor.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { type FakeDriver, fakeDevice } from "../support/fake-driver.ts";

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

describe("HostTensor.from", () => {
  test("reads nested arrays and finds shape and dtype", () => {
    const x = HostTensor.from([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    expect(x.shape).toEqual([2, 3]);
    expect(x.dtype).toBe(float32);
    expect(x.data).toEqual(Float32Array.of(1, 2, 3, 4, 5, 6));
    expect(HostTensor.from([true, false]).dtype).toBe(bool);
    expect(HostTensor.from([5n]).dtype).toBe(int64);
    expect(HostTensor.from(7)).toMatchObject({ shape: [], size: 1 });
    expect(HostTensor.from([]).shape).toEqual([0]);
    expect(HostTensor.from([[], []]).shape).toEqual([2, 0]);
  });

  test("reads typed arrays, and reshapes them", () => {
    expect(HostTensor.from(Int32Array.of(1, 2)).dtype).toBe(int32);
    expect(HostTensor.from(Uint8Array.of(1, 2)).dtype).toBe(uint8);
    expect(HostTensor.from(BigInt64Array.of(1n)).dtype).toBe(int64);
    expect(HostTensor.from(Float64Array.of(0.5)).dtype).toBe(float32);
    expect(HostTensor.from(Uint16Array.of(0x3f80), { dtype: "bfloat16" }).toArray()).toEqual(Float32Array.of(1));
    expect(HostTensor.from(Uint16Array.of(0x3c00), { dtype: float16 }).item()).toBe(1);
    expect(HostTensor.from(Float32Array.of(1, 2, 3, 4), { shape: [2, 2] }).toNested()).toEqual([
      [1, 2],
      [3, 4],
    ]);
  });

  test("converts: nearest even for floats, towards zero for integers, all bits of int64", () => {
    expect(HostTensor.from([1.7, -1.7], { dtype: "int32" }).data).toEqual(Int32Array.of(1, -1));
    expect(HostTensor.from([1 + 2 ** -11], { dtype: "float16" }).item()).toBe(1);
    expect(HostTensor.from([1 + 3 * 2 ** -11], { dtype: "float16" }).item()).toBe(1 + 2 ** -9);
    expect(HostTensor.from([2n ** 60n + 1n], { dtype: "int64" }).data).toEqual(BigInt64Array.of(2n ** 60n + 1n));
    expect(HostTensor.from(Float32Array.of(0, 3), { dtype: "bool" }).data).toEqual(Uint8Array.of(0, 1));
    expect(HostTensor.from([1, 2]).to(bfloat16).dtype).toBe(bfloat16);
  });

  test("says what is wrong with the input", () => {
    expect(() => HostTensor.from([[1, 2], [3]])).toThrow(
      /Tensor\.from: element \[1\] is an array of 1, expected arrays of shape \[2\]/,
    );
    expect(() => HostTensor.from([[1], 2])).toThrow(/element \[1\] is 2, expected arrays of shape \[1\]/);
    expect(() => HostTensor.from([1, [2]])).toThrow(/element \[1\] is an array of 1, expected a number/);
    expect(() => HostTensor.from([1, 2, 3], { shape: [2, 2] })).toThrow(/shape \[2, 2\] calls for 4 elements, got 3/);
    expect(() => HostTensor.from([1], { shape: [-1] })).toThrow(ShapeError);
    expect(() => HostTensor.from(Uint16Array.of(1))).toThrow(DTypeError);
    expect(() => HostTensor.from(new Int16Array(1) as never)).toThrow(/cannot read a Int16Array/);
    expect(() => HostTensor.from([1], { dtype: "float8" })).toThrow(ArgumentError);
    expect(() => new HostTensor(new Float32Array(3), [2], float32)).toThrow(ShapeError);
  });
});

describe("to the device and back", () => {
  test.each([
    ["float32", [0.1, -2, Number.POSITIVE_INFINITY]],
    ["float16", [0.5, -2, 65504]],
    ["bfloat16", [0.5, -2, 2 ** 100]],
    ["int32", [1, -2, 2 ** 31 - 1]],
    ["int64", [1, -2, 2 ** 53]],
    ["uint8", [0, 7, 255]],
    ["bool", [0, 1, 1]],
  ] as const)("%s", (dtype, values) => {
    using x = Tensor.from(values, { dtype, device });
    expect(x.dtype.name).toBe(dtype);
    const rounded = dtype === "float32" ? values.map(Math.fround) : [...values];
    expect(x.toNested()).toEqual(rounded);
    expect(x.cpu().dtype).toBe(x.dtype);
    using again = Tensor.from(x.cpu(), { device });
    expect(again.toNested()).toEqual(rounded);
  });

  test("views are read where they lie when they are contiguous", () => {
    using x = Tensor.from([1, 2, 3, 4, 5, 6], { shape: [2, 3], device });
    using row = x.select(0, 1);
    expect(row.toArray()).toEqual(Float32Array.of(4, 5, 6));
    using last = row.select(0, -1);
    expect(last.item()).toBe(6);
    expect(last.toNested()).toBe(6);
    expect(() => x.item()).toThrow(/item: needs a tensor of one element, got \[2, 3\] float32/);
  });

  test("empty tensors and rank 0 go both ways", () => {
    using empty = Tensor.from([], { device });
    expect(empty.toNested()).toEqual([]);
    using hollow = Tensor.empty([2, 0, 3], { device });
    expect(hollow.toNested()).toEqual([[], []]);
    using one = Tensor.from(3, { device });
    expect(one.rank).toBe(0);
    expect(one.item()).toBe(3);
  });

  test("host data may change as soon as from returns, and more than one chunk arrives whole", () => {
    const data = Int32Array.from({ length: 5_000_000 }, (_, i) => i);
    driver.hold(device.stream);
    using x = Tensor.from(data, { device });
    data.fill(0);
    driver.release(device.stream);
    const back = x.toArray();
    expect([back[0], back[4_194_304], back[4_999_999]]).toEqual([0, 4_194_304, 4_999_999]);
  });

  test("neither is possible during a capture", () => {
    using x = Tensor.from([1], { device });
    expect(() => device.stream.capture(() => void x.cpu())).toThrow(StateError);
    using pool = device.createMemoryPool();
    const upload = () => device.useMemory(pool, () => device.stream.capture(() => void Tensor.from([1], { device })));
    expect(upload).toThrow(/cannot be copied to the device during a capture/);
  });
});
