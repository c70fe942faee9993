import { describe, expect, test } from "vitest";
import type { Device } from "../../../src/driver/device.ts";
import { Tensor } from "../../../src/tensor/tensor.ts";
import { checkedDevice, verdict } from "./support.ts";

/** Kernels that ship, with one line of synchronization taken out of their PTX: each must be missed. */

function random(device: Device, shape: number[], dtype: "float32" | "float16", seed: number): Tensor {
  return Tensor.randn(shape, { device, dtype, seed });
}

function product(dtype: "float32" | "float16", [m, k, n]: [number, number, number]) {
  return (device: Device): void => {
    using a = random(device, [m, k], dtype, 1);
    using b = random(device, [k, n], dtype, 2);
    a.matmul(b).dispose();
  };
}

const operations = {
  "sum of long rows": (device: Device): void => {
    using a = random(device, [3, 3000], "float32", 1);
    a.sum(-1).dispose();
  },
  "softmax of long rows": (device: Device): void => {
    using a = random(device, [3, 3000], "float32", 1);
    a.softmax(-1).dispose();
  },
  "top-k": (device: Device): void => {
    using a = random(device, [2, 5000], "float32", 1);
    for (const result of Object.values(a.topk(20))) (result as Tensor).dispose();
  },
  "float32 product": product("float32", [70, 80, 90]),
  "float16 product": product("float16", [64, 64, 96]),
  "float16 product over a long k": product("float16", [64, 400, 96]),
};

/** Runs an operation with match number `index` of `line` removed from each kernel's text, and says what was removed. */
function without(line: RegExp, index: number, run: (device: Device) => void): { removed: string; found: string } {
  using device = checkedDevice();
  const { api } = device;
  const load = api.loadModule.bind(api);
  let removed = "";
  api.loadModule = (ptx, name) => {
    let count = 0;
    const lines = new TextDecoder().decode(ptx).split("\n");
    const at = lines.findIndex((text) => line.test(text) && count++ === index);
    if (at >= 0) removed = lines.splice(at, 1, "")[0]!.trim();
    return load(new TextEncoder().encode(lines.join("\n")), name);
  };
  return { found: verdict(() => run(device)), removed };
}

const barrier = /^\s*bar\.sync/;
const wait = /^\s*cp\.async\.wait_group/;

describe("kernels that ship", () => {
  test.each(Object.entries(operations))("%s is clean", (_, run) => {
    using device = checkedDevice();
    expect(verdict(() => run(device))).toBe("clean");
  });

  test.each<[keyof typeof operations, RegExp, number, RegExp]>([
    ["sum of long rows", barrier, 0, /never-written shared memory: reduce_f32 .*reduce\.cu:\d+, ld\.shared\.f32\)/],
    ["sum of long rows", barrier, 1, /data race: reduce_f32 .*reduce\.cu:\d+.*reduce_f32::scratch/],
    ["softmax of long rows", barrier, 5, /softmax_f32 .*common\/reduce\.cuh:\d+.*block_reduce::scratch/],
    ["top-k", barrier, 10, /data race: topk_f32 .*topk\.cu:\d+.*topk_f32::best/],
    ["top-k", barrier, 9, /data race: .*atom\.shared\.add\.u32\) updates 4 bytes .*topk_f32::gathered/],
    ["float32 product", barrier, 0, /never-written shared memory: gemm_simt_f32_t\d+ .*gemm-simt\.cuh:\d+/],
    ["float16 product", barrier, 0, /gemm_mma_f16\w* .*ldmatrix/],
    [
      "float16 product",
      barrier,
      1,
      /data race: gemm_mma_f16\w* .*ldmatrix.*writes there at .*gemm-mma\.cuh:\d+, st\.shared/,
    ],
    ["float16 product", barrier, 2, /gemm_mma_f16\w* .*matmul\.cuh:\d+, ld\.shared/],
    ["float16 product over a long k", barrier, 0, /gemm_mma_f16\w* .*ldmatrix/],
    [
      "float16 product over a long k",
      wait,
      0,
      /gemm_mma_f16\w* .*ldmatrix.* copies asynchronously there at .*without cp\.async\.wait_group/,
    ],
  ])("%s without %s number %d", (name, line, index, expected) => {
    const { removed, found } = without(line, index, operations[name]);
    expect(removed).toMatch(line.source.includes("bar") ? /^bar\.sync/ : /^cp\.async\.wait_group/);
    expect(found).toMatch(expected);
  });
});
