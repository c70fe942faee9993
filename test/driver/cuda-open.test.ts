import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DeviceError } from "../../src/base/errors.ts";
import { CudaProvider } from "../../src/driver/cuda/provider.ts";
import type { Device } from "../../src/driver/device.ts";
import { listDevices, openDevice, registerDevices } from "../../src/driver/open.ts";
import { ffiEngine } from "../../src/ffi/select.ts";
import { noCompiler } from "../support/native.ts";
import { FakeDriver } from "./fake-driver.ts";

function withEnvironment<T>(values: Record<string, string>, body: () => T): T {
  const before = Object.keys(values).map((key) => [key, process.env[key]] as const);
  Object.assign(process.env, values);
  try {
    return body();
  } finally {
    for (const [key, value] of before) {
      if (value === undefined) delete process.env[key];
      else process.env[key] = value;
    }
  }
}

describe(`GPUs by name${noCompiler === undefined ? "" : ` (skipped: ${noCompiler})`}`, () => {
  const testHere = test.skipIf(noCompiler !== undefined);
  let fake: FakeDriver;
  let provider: CudaProvider;

  beforeAll(() => {
    if (noCompiler !== undefined) return;
    fake = new FakeDriver(ffiEngine());
    provider = new CudaProvider(() => fake.api());
  });
  afterAll(() => fake?.dispose());

  testHere("what there is, with capability and memory", () => {
    expect(provider.list()).toEqual([
      { name: "cuda:0", description: "Fake GPU 0, sm_90, 141 GiB" },
      { name: "cuda:1", description: "Fake GPU 1, sm_90, 141 GiB" },
    ]);
  });

  testHere("an index that does not exist: how many there are", () => {
    expect(() => provider.open("cuda:2")).toThrow(`device "cuda:2": there are 2 GPUs; use "cuda:0" to "cuda:1"`);
    fake.devices(1);
    expect(() => provider.open("cuda:7")).toThrow(`device "cuda:7": there is 1 GPU; use "cuda:0"`);
    fake.devices(2);
  });

  testHere("a driver without GPUs lists nothing", () => {
    fake.devices(0);
    expect(new CudaProvider(() => fake.api()).list()).toEqual([]);
    fake.devices(2);
  });
});

describe("openDevice", () => {
  test("an index that is not one", () => {
    expect(() => openDevice("cuda:first")).toThrow(
      `device "cuda:first": "first" is not an index; use "cuda:0" for the first GPU`,
    );
    expect(() => openDevice("cuda:-1")).toThrow(DeviceError);
  });

  test("an unknown kind lists the known ones", () => {
    expect(() => openDevice("rocm:0")).toThrow(/device "rocm:0": unknown kind "rocm"; use "cuda"/);
    expect(() => openDevice("")).toThrow(DeviceError);
  });

  test("LLCUDA_DEVICE is what no name means", () => {
    expect(() => withEnvironment({ LLCUDA_DEVICE: "abacus" }, () => openDevice())).toThrow(/unknown kind "abacus"/);
  });

  test("no driver: what was tried and what to install", () => {
    // Another provider than the process's own, which may have found a driver already.
    const provider = new CudaProvider();
    const missing = { LLCUDA_CUDA_LIBRARY: "/nowhere/libcuda.so.1" };
    const open = () => withEnvironment(missing, () => provider.open("cuda:0"));
    expect(open).toThrow(DeviceError);
    expect(open).toThrow(/no NVIDIA driver.*tried \/nowhere\/libcuda\.so\.1 .*install the NVIDIA driver, 450\.80\.02/);
    expect(withEnvironment(missing, () => provider.list())).toEqual([]);
  });

  test("without a name and a GPU it is the software device, once one line has said so", () => {
    const written: string[] = [];
    const write = process.stderr.write;
    process.stderr.write = (text: string | Uint8Array) => written.push(String(text)) > 0;
    const missing = { LLCUDA_CUDA_LIBRARY: "/nowhere/libcuda.so.1" };
    const open = () => withEnvironment(missing, () => openDevice());
    registerDevices(new CudaProvider());
    try {
      expect(open).toThrow(/no NVIDIA driver/);
      const device = { name: "sim:toy", disposed: false } as Device;
      registerDevices({ kind: "sim", resolve: () => "sim:toy", open: () => device, list: () => [] });
      expect(open()).toBe(device);
      expect(open()).toBe(device);
      expect(() => withEnvironment(missing, () => openDevice("cuda"))).toThrow(/no NVIDIA driver/);
    } finally {
      process.stderr.write = write;
    }
    expect(written).toHaveLength(1);
    expect(written[0]).toMatch(/^llcuda: running on sim:toy, the software device, which is slow: cuda: no .*\n$/);
  });

  test("other kinds register themselves; a name gives the same device until it is disposed", () => {
    let opened = 0;
    registerDevices({
      kind: "toy",
      resolve: (detail) => `toy:${detail || "default"}`,
      open: (name) => {
        opened++;
        return { name, disposed: false } as Device;
      },
      list: () => [{ name: "toy:default", description: "a test" }],
    });
    const first = openDevice("toy");
    expect(first.name).toBe("toy:default");
    expect(openDevice("toy:default")).toBe(first);
    expect(openDevice("toy:a:b").name).toBe("toy:a:b");
    expect(opened).toBe(2);
    Object.assign(first, { disposed: true });
    expect(openDevice("toy") === first).toBe(false);
    expect(listDevices().some((d) => d.name === "toy:default")).toBe(true);
  });
});
