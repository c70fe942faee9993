import { describe, expect, test } from "vitest";
import { CudaError } from "../../src/base/errors.ts";
import { ptrAdd } from "../../src/driver/api.ts";
import { CustomKernel } from "../../src/kernels/custom.ts";
import { fakeDevice } from "../support/fake-driver.ts";

const ptx = ".version 6.0\n.target sm_60\n.visible .entry scale() { ret; }\n";
const args = { out: "ptr", factor: "f32", count: "i64" } as const;

describe("a kernel of one's own", () => {
  test("is launched with its arguments where C puts them", () => {
    const { driver, device } = fakeDevice();
    using kernel = new CustomKernel(device, { ptx, symbol: "scale", args });
    using memory = device.allocate(64);
    kernel.launch({ grid: [3], block: [32, 2] }, { out: ptrAdd(memory.ptr, 16), factor: 1.5, count: 7n });
    device.synchronize();
    const launched = driver.launches[0]!;
    expect(launched.symbol).toBe("scale");
    expect(launched.shape).toEqual({ grid: [3, 1, 1], block: [32, 2, 1], sharedBytes: 0 });
    expect(launched.args.byteLength).toBe(24);
    expect(launched.args.getBigUint64(0, true)).toBe(BigInt(memory.ptr) + 16n);
    expect(launched.args.getFloat32(8, true)).toBe(1.5);
    expect(launched.args.getBigInt64(16, true)).toBe(7n);
  });

  test("an entry that the text lacks is an error, and nothing stays loaded", () => {
    const { device } = fakeDevice();
    expect(() => new CustomKernel(device, { ptx, symbol: "other", args })).toThrow(CudaError);
    device.dispose();
  });
});
