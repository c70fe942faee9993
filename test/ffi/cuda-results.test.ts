import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { CU, cudaResult, cudaResults } from "../../src/ffi/cuda-results.ts";

const header = path.join(process.env.CUDA_HOME ?? "/usr/local/cuda", "include", "cuda.h");

describe("CUresult", () => {
  test("the 101 statuses of CUDA 13.0 have a name and a text", () => {
    const entries = Object.values(cudaResults);
    expect(entries.length).toBe(101);
    for (const { name, text } of entries) {
      expect(name).toMatch(/^CUDA_(SUCCESS|ERROR_[A-Z0-9_]+)$/);
      expect(text.length > 10).toBe(true);
    }
    expect(new Set(entries.map((e) => e.name)).size).toBe(entries.length);
  });

  test("the constants that code compares with are entries", () => {
    for (const value of Object.values(CU)) expect(cudaResults[value] !== undefined).toBe(true);
    expect(cudaResult(CU.outOfMemory).name).toBe("CUDA_ERROR_OUT_OF_MEMORY");
  });

  test("a status of a newer driver still has a message", () => {
    expect(cudaResult(12345).name).toBe("CUresult 12345");
  });

  test.skipIf(!existsSync(header))("the table holds what cuda.h declares", () => {
    const text = readFileSync(header, "utf8");
    const body = text.slice(text.indexOf("typedef enum cudaError_enum"), text.indexOf("} CUresult;"));
    const declared = [...body.matchAll(/(CUDA_(?:ERROR_)?[A-Z0-9_]+)\s*=\s*(\d+)/g)];
    expect(declared.length > 90).toBe(true);
    for (const [, name, value] of declared)
      expect(`${value} ${cudaResult(Number(value)).name}`).toBe(`${value} ${name}`);
  });
});
