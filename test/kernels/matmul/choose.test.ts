import { describe, expect, test } from "vitest";
import {
  chooseMatmul,
  gemvSplit,
  kernelRefusal,
  type MatmulMachine,
  type MatmulShape,
  mmaSplit,
} from "../../../src/kernels/matmul/choose.ts";
import { gemvMmaSharedBytes, mmaSharedBytes, mmaTiles } from "../../../src/kernels/matmul/specs.ts";

const linear: MatmulShape = {
  m: 1,
  n: 4096,
  k: 4096,
  batch: 1,
  dtype: "bf16",
  transposeA: false,
  transposeB: true,
  vectorA: true,
  vectorB: true,
  gated: false,
};
const ampere: MatmulMachine = {
  capability: 80,
  multiprocessors: 108,
  sharedBytes: 163 * 1024,
  hopper: false,
  cublaslt: false,
};
const ada: MatmulMachine = { ...ampere, capability: 89, sharedBytes: 99 * 1024 };
const hopper: MatmulMachine = {
  ...ampere,
  capability: 90,
  multiprocessors: 132,
  sharedBytes: 227 * 1024,
  hopper: true,
};
const turing: MatmulMachine = { ...ampere, capability: 75, sharedBytes: 64 * 1024 };
const pascal: MatmulMachine = { ...ampere, capability: 60, sharedBytes: 48 * 1024 };

describe("chooseMatmul", () => {
  test("few rows of a 16-bit weight go to the tensor-core GEMV from sm_80 on, and to the other one before", () => {
    for (const m of [1, 8])
      expect(chooseMatmul({ ...linear, m }, ampere)).toEqual({ kernel: "gemv_mma", rows: "8", tile: "16" });
    expect(chooseMatmul({ ...linear, m: 9 }, ampere)).toEqual({ kernel: "gemv_mma", rows: "16", tile: "16" });
    expect(chooseMatmul({ ...linear, m: 3 }, turing)).toEqual({ kernel: "gemv", rows: "4", split: 4 });
    expect(chooseMatmul({ ...linear, vectorB: false }, ampere).kernel).toBe("gemv");
    expect(chooseMatmul({ ...linear, dtype: "f32", m: 2 }, hopper)).toEqual({ kernel: "gemv", rows: "2", split: 4 });
  });

  test("the split of K depends on the weight, never on the rows", () => {
    expect(gemvSplit({ k: 1, dtype: "f32" })).toBe(1);
    expect(gemvSplit({ k: 4096, dtype: "bf16" })).toBe(4);
  });

  test("the tensor-core GEMV takes tiles of 32 rows where they fit and keep the GPU busy", () => {
    const tile = (shape: Partial<MatmulShape>, on: MatmulMachine) => {
      const choice = chooseMatmul({ ...linear, ...shape }, on);
      return choice.kernel === "gemv_mma" ? choice.tile : choice.kernel;
    };
    expect(tile({ m: 1 }, hopper)).toBe("32");
    expect(tile({ m: 16 }, hopper)).toBe("32");
    expect(tile({ n: 1024 }, hopper)).toBe("deep");
    expect(tile({ n: 1024 }, { ...hopper, capability: 120, sharedBytes: 99 * 1024 })).toBe("16");
    expect(tile({ n: 5120 }, hopper)).toBe("deep");
    expect(tile({ n: 2048, gated: true }, hopper)).toBe("32");
    expect(tile({}, { ...hopper, capability: 120, sharedBytes: 99 * 1024 })).toBe("16");
    expect(tile({}, ada)).toBe("16");
  });

  test("every ring of the tensor-core GEMV fits where it is used", () => {
    for (const rows of ["8", "16"] as const) {
      expect(gemvMmaSharedBytes("32", rows) <= hopper.sharedBytes).toBe(true);
      expect(gemvMmaSharedBytes("deep", rows) <= hopper.sharedBytes).toBe(true);
      expect(gemvMmaSharedBytes("16", rows) <= ada.sharedBytes).toBe(true);
    }
    expect(gemvMmaSharedBytes("32", "8")).toBe(8 * (4 * 40 * 128 + 8 * 36 * 4));
  });

  test("17 to 64 rows get K-split tiles, narrower for narrower weights", () => {
    expect(chooseMatmul({ ...linear, m: 17 }, ampere)).toEqual({ kernel: "mma", tile: "t32x32", split: 2 });
    expect(chooseMatmul({ ...linear, m: 32, n: 14336 }, ampere)).toEqual({ kernel: "mma", tile: "t32x64", split: 1 });
    expect(chooseMatmul({ ...linear, m: 64 }, ampere)).toEqual({ kernel: "mma", tile: "t64x32", split: 2 });
    expect(chooseMatmul({ ...linear, m: 64, n: 14336 }, ampere)).toEqual({ kernel: "mma", tile: "t64x64", split: 1 });
  });

  test("mma.sync's parts of K depend on the weight, not on the rows up to 128, nor on a gate", () => {
    const split = (shape: Partial<MatmulShape>) => mmaSplit({ ...linear, ...shape }, 108);
    for (const m of [17, 64, 128]) {
      expect(split({ m, n: 4096 })).toBe(2);
      expect(split({ m, n: 1024 })).toBe(8);
      expect(split({ m, n: 14336 })).toBe(1);
    }
    expect(split({ m: 129, n: 1024 })).toBe(1);
    expect(split({ n: 512, gated: true })).toBe(split({ n: 1024 }));
    expect(split({ n: 1024, k: 1000 })).toBe(1);
    expect(split({ n: 1024, k: 1024 })).toBe(2);
    expect(split({ n: 1024, batch: 2 })).toBe(1);
    expect(split({ n: 1024, transposeB: false })).toBe(1);
  });

  test("Hopper's own kernel takes 17 to 128 rows, and cuBLASLt more, where it is installed", () => {
    for (const m of [17, 64, 128]) {
      expect(chooseMatmul({ ...linear, m }, hopper)).toEqual({ kernel: "hopper" });
      expect(chooseMatmul({ ...linear, m }, { ...hopper, cublaslt: true })).toEqual({ kernel: "hopper" });
    }
    expect(chooseMatmul({ ...linear, m: 129 }, { ...hopper, cublaslt: true }).kernel).toBe("cublaslt");
    expect(chooseMatmul({ ...linear, m: 129 }, hopper).kernel).toBe("hopper");
    expect(chooseMatmul({ ...linear, m: 128 }, { ...ampere, cublaslt: true }).kernel).toBe("cublaslt");
  });

  test("many rows: cuBLASLt, else Hopper's kernel, else the tile that fits the shared memory", () => {
    const many = { ...linear, m: 4096 };
    expect(chooseMatmul(many, { ...hopper, cublaslt: true })).toEqual({ kernel: "cublaslt" });
    expect(chooseMatmul(many, hopper)).toEqual({ kernel: "hopper" });
    expect(chooseMatmul(many, ampere)).toEqual({ kernel: "mma", tile: "t128x256", split: 1 });
    expect(chooseMatmul(many, ada)).toEqual({ kernel: "mma", tile: "t128x128", split: 1 });
    expect(chooseMatmul({ ...many, dtype: "f16" }, turing)).toEqual({ kernel: "wmma", tile: "t128" });
    expect(chooseMatmul(many, turing)).toEqual({ kernel: "simt", tile: "t128" });
    expect(chooseMatmul({ ...many, dtype: "f16" }, pascal)).toEqual({ kernel: "simt", tile: "t128" });
    expect(chooseMatmul({ ...linear, m: 64 }, { ...ampere, cublaslt: true }).kernel).toBe("mma");
  });

  test("what tensor cores cannot take falls back to a kernel that can", () => {
    expect(chooseMatmul({ ...linear, m: 100, transposeA: true }, ampere).kernel).toBe("simt");
    expect(chooseMatmul({ ...linear, m: 100, vectorA: false }, ampere).kernel).toBe("simt");
    expect(chooseMatmul({ ...linear, m: 100, transposeB: false }, ampere)).toEqual({
      kernel: "mma",
      tile: "t64x64",
      split: 1,
    });
    expect(chooseMatmul({ ...linear, m: 100, transposeA: true }, { ...ampere, cublaslt: true }).kernel).toBe(
      "cublaslt",
    );
    expect(chooseMatmul({ ...linear, k: 0 }, ampere).kernel).toBe("simt");
    expect(chooseMatmul({ ...linear, m: 5, n: 7, transposeB: false, dtype: "f32" }, ampere)).toEqual({
      kernel: "simt",
      tile: "t32",
    });
  });

  test("a refusal says what the kernel takes", () => {
    expect(kernelRefusal("gemv", { ...linear, m: 9 }, ampere)).toBe("it takes at most 8 rows");
    expect(kernelRefusal("mma", linear, turing)).toBe("it needs target sm_80 or newer");
    expect(kernelRefusal("mma", { ...linear, vectorB: false }, ampere)).toMatch(/16 bytes/);
    expect(kernelRefusal("simt", { ...linear, transposeA: true, vectorA: false }, pascal)).toBe(undefined);
  });

  test("K-split tiles have room for their partial sums, and every tile fits sm_80", () => {
    for (const name of ["t64x32", "t32x64", "t32x32"] as const) {
      const { rows, cols } = mmaTiles[name];
      expect(mmaSharedBytes(name) >= 4 * rows * cols * 4).toBe(true);
    }
    for (const name of Object.keys(mmaTiles) as (keyof typeof mmaTiles)[]) {
      expect(mmaSharedBytes(name) <= ampere.sharedBytes).toBe(true);
    }
  });
});
