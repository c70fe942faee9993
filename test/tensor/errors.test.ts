import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ArgumentError, DTypeError, ShapeError, StateError, UnsupportedError } from "../../src/base/errors.ts";
import { Device } from "../../src/driver/device.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { tidy } from "../../src/tensor/tidy.ts";
import { FakeDriver } from "../support/fake-driver.ts";

let driver: FakeDriver;
let device: Device;
let peer: Device;

beforeAll(() => {
  driver = new FakeDriver({ devices: 2 });
  device = new Device(driver, 0, "fake:0");
  peer = new Device(driver, 1, "fake:1");
});

afterAll(() => {
  expect(device.memory.statistics().liveBuffers).toBe(0);
  peer.dispose();
  device.dispose();
  expect(driver.leaks).toEqual([]);
});

const make = (shape: number[], dtype = "float32") => Tensor.empty(shape, { device, dtype });

interface Case {
  readonly name: string;
  readonly run: () => unknown;
  readonly type: new (...args: never[]) => Error;
  readonly message: RegExp;
}

const cases: Case[] = [
  {
    name: "shapes that do not broadcast",
    run: () => make([2, 3]).add(make([4, 3])),
    type: ShapeError,
    message: /add: shapes \[2, 3\] and \[4, 3\] do not broadcast/,
  },
  {
    name: "arithmetic on bool",
    run: () => make([2], "bool").add(make([2], "bool")),
    type: DTypeError,
    message: /add: no arithmetic on bool, got \[2\] bool and \[2\] bool; cast one with to\("int32"\)/,
  },
  {
    name: "operands on two devices",
    run: () => make([2]).mul(Tensor.empty([2], { device: peer })),
    type: ArgumentError,
    message: /mul: operands \[2\] float32 on fake:0 and \[2\] float32 on fake:1 must be on one device/,
  },
  {
    name: "an in-place result that is larger",
    run: () => make([3]).add_(make([2, 3])),
    type: ShapeError,
    message: /add_: the result with \[2, 3\] float32 has shape \[2, 3\] and does not fit \[3\] float32; use add\(\)/,
  },
  {
    name: "an in-place result of another kind",
    run: () => make([3], "int32").mul_(0.5),
    type: DTypeError,
    message: /mul_: \[3\] int32 cannot hold the float32 result with the number 0\.5/,
  },
  {
    name: "writing to an expanded tensor",
    run: () => make([1, 3]).expand(2, 3).add_(1),
    type: StateError,
    message: /add_: \[2, 3\] float32 with strides \[0, 1\] is expanded.*clone\(\)/,
  },
  {
    name: "copying what does not expand",
    run: () => make([2, 3]).copy_(make([3, 2])),
    type: ShapeError,
    message: /copy_ into \[2, 3\] float32: \[3, 2\] does not expand to \[2, 3\]/,
  },
  {
    name: "unary functions in place on integers",
    run: () => make([2], "int32").exp_(),
    type: DTypeError,
    message: /exp_: \[2\] int32 cannot hold the float32 result/,
  },
  {
    name: "negating bool",
    run: () => make([2], "bool").neg(),
    type: DTypeError,
    message: /neg: no arithmetic on bool/,
  },
  {
    name: "the inner sizes of a product",
    run: () => make([2, 3]).matmul(make([4, 5])),
    type: ShapeError,
    message: /matmul: \[2, 3\] float32 and \[4, 5\] float32 do not fit: the last dimension of the first is 3.*is 4/,
  },
  {
    name: "the batch sizes of a product",
    run: () => make([2, 3, 4]).matmul(make([5, 4, 3])),
    type: ShapeError,
    message: /matmul \(batch dimensions\): shapes \[2\] and \[5\] do not broadcast/,
  },
  {
    name: "a product of two dtypes",
    run: () => make([2, 3]).matmul(make([3, 2], "float16")),
    type: DTypeError,
    message: /matmul: operands must both be.*\[2, 3\] float32 and \[3, 2\] float16/,
  },
  {
    name: "a product of integers",
    run: () => make([2, 2], "int32").matmul(make([2, 2], "int32")),
    type: DTypeError,
    message: /matmul: .*\[2, 2\] int32 and \[2, 2\] int32/,
  },
  {
    name: "a product with a number's shape",
    run: () => make([]).matmul(make([2])),
    type: ShapeError,
    message: /matmul: operands need at least one dimension, got \[\] float32 and \[2\] float32/,
  },
  {
    name: "the weight of a norm",
    run: () => make([2, 8]).rmsNorm(make([4]), 1e-5),
    type: ShapeError,
    message: /rmsNorm: input \[2, 8\] float32 needs a weight \[C\] for its last dimension C, got \[4\] float32/,
  },
  {
    name: "the dtype of a norm's weight",
    run: () => make([2, 8], "bfloat16").rmsNorm(make([8], "float16"), 1e-5),
    type: DTypeError,
    message:
      /rmsNorm: operands \[2, 8\] bfloat16 and \[8\] float16 must have one dtype; cast one with to\("bfloat16"\)/,
  },
  { name: "eps", run: () => make([8]).rmsNorm(make([8]), Number.NaN), type: ArgumentError, message: /eps.*NaN/ },
  {
    name: "an embedding table",
    run: () => make([4]).embedding(make([2], "int32")),
    type: ShapeError,
    message: /embedding: the table must be \[V, C\], got \[4\] float32 for ids \[2\] int32/,
  },
  {
    name: "embedding ids",
    run: () => make([4, 2]).embedding(make([2])),
    type: DTypeError,
    message: /embedding: ids must be int32 or int64, got \[2\] float32 for table \[4, 2\] float32/,
  },
  {
    name: "softmax of integers",
    run: () => make([2], "int32").softmax(),
    type: DTypeError,
    message: /softmax: needs float32, float16 or bfloat16, got \[2\] int32; cast it/,
  },
  {
    name: "a dimension that does not exist",
    run: () => make([2, 3]).softmax(2),
    type: ShapeError,
    message: /softmax: dimension 2 does not exist for shape \[2, 3\]; expected -2 to 1/,
  },
  {
    name: "a dimension named twice",
    run: () => make([2, 3]).sum([0, -2]),
    type: ShapeError,
    message: /sum: dimensions \[0, 0\] of shape \[2, 3\] name one twice/,
  },
  {
    name: "the maximum of nothing",
    run: () => make([2, 0]).max(1),
    type: ShapeError,
    message: /max: there is no max of no elements; \[2, 0\] is empty along \[1\]/,
  },
  {
    name: "argmax of nothing",
    run: () => make([2, 0]).argmax(1),
    type: ShapeError,
    message: /argmax: dimension 1 of \[2, 0\] is empty/,
  },
  {
    name: "k beyond the dimension",
    run: () => make([2, 3]).topk(4),
    type: ShapeError,
    message: /topk: k = 4 exceeds the 3 elements of dimension -1 of \[2, 3\]/,
  },
  { name: "k not whole", run: () => make([2, 3]).topk(1.5), type: ArgumentError, message: /topk: k must be a whole/ },
  {
    name: "k beyond the kernel",
    run: () => make([5000]).topk(2000),
    type: UnsupportedError,
    message: /topk: k may be at most 1024, got 2000/,
  },
  {
    name: "joining shapes that differ",
    run: () => Tensor.cat([make([2, 3]), make([2, 4])]),
    type: ShapeError,
    message: /cat: shapes \[2, 3\] and \[2, 4\] may differ in dimension 0 only/,
  },
  { name: "joining nothing", run: () => Tensor.cat([]), type: ArgumentError, message: /cat: needs at least one/ },
  {
    name: "joining numbers",
    run: () => Tensor.cat([make([]), make([])]),
    type: ShapeError,
    message: /cat: tensors of shape \[\] have no dimension to join along; use stack/,
  },
  {
    name: "stacking shapes that differ",
    run: () => Tensor.stack([make([2]), make([3])]),
    type: ShapeError,
    message: /stack: shapes \[2\] and \[3\] must be equal/,
  },
  {
    name: "bits of another width",
    run: () => make([3], "uint8").bitcast("float32"),
    type: ShapeError,
    message: /bitcast: \[3\] uint8 cannot be read as float32/,
  },
  { name: "an unknown dtype", run: () => make([1]).to("float8"), type: ArgumentError, message: /"float8"/ },
  {
    name: "random integers",
    run: () => Tensor.rand([2], { device, dtype: "int32" }),
    type: DTypeError,
    message: /rand/,
  },
  { name: "a seed", run: () => Tensor.randn([2], { device, seed: 0.5 }), type: ArgumentError, message: /seed.*0\.5/ },
  { name: "an endless range", run: () => Tensor.arange(0, 1, 0, { device }), type: ArgumentError, message: /step 0/ },
  {
    name: "a fractional range of integers",
    run: () => Tensor.arange(0, 1, 0.5, { device, dtype: "int32" }),
    type: ArgumentError,
    message: /step 0\.5 must be whole numbers for int32/,
  },
  { name: "a negative size", run: () => make([2, -1]), type: ShapeError, message: /shape \[2, -1\] is not usable/ },
];

describe("errors name the operation and its operands", () => {
  test.each(cases)("$name", ({ run, type, message }) => {
    let error: unknown;
    try {
      tidy(() => void run());
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(type);
    expect((error as Error).message).toMatch(message);
  });

  test("a disposed operand", () => {
    const x = make([2]);
    x.dispose();
    expect(() => x.add(1)).toThrow(/Tensor \[2\] float32: used after dispose\(\); return it from tidy\(\)/);
    expect(() => x.view(2)).toThrow(StateError);
    expect(() => x.toArray()).toThrow(StateError);
  });
});
