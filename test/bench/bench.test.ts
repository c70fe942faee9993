import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test, vi } from "vitest";
import { defineBench, positiveInteger } from "../../bench/support/bench.ts";
import { ArgumentError } from "../../src/base/errors.ts";
import { Tensor } from "../../src/tensor/tensor.ts";

describe("the frame of benchmarks", () => {
  const printed = vi.spyOn(console, "log").mockImplementation(() => {});
  afterEach(() => printed.mockClear());

  const doubled = defineBench({
    name: "doubled",
    options: { count: { help: "how many", default: "3" } },
    measure({ device, table }, options) {
      using x = Tensor.from(new Float32Array(positiveInteger("count", options.count)).fill(21), { device });
      using y = x.add(x);
      table("twice", [{ device: device.name, sum: Number(y.sum().item()) }]);
    },
  });

  test("runs on the software device that was asked for, and writes what it printed", async () => {
    const folder = mkdtempSync(join(tmpdir(), "llcuda-bench-"));
    try {
      const json = join(folder, "out.json");
      expect(await doubled.run(["--device", "sim:sm_60", "--json", json])).toBe(0);
      const written = JSON.parse(readFileSync(json, "utf8"));
      expect(written).toMatchObject({ bench: "doubled", options: { count: "3", device: "sim:sm_60" } });
      expect(written.tables).toEqual([{ title: "twice", rows: [{ device: "sim:sm_60", sum: 126 }] }]);
      expect(printed.mock.calls.join("\n")).toContain("sim:sm_60");
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test("help opens no device, and wrong options are errors that name them", async () => {
    expect(await doubled.run(["--help"])).toBe(0);
    expect(printed.mock.calls.join("\n")).toContain("--count      how many (default 3)");
    await expect(doubled.run(["--cuont", "4"])).rejects.toThrow(ArgumentError);
    await expect(doubled.run(["--cuont", "4"])).rejects.toThrow(/--cuont/);
    await expect(doubled.run(["--device", "sim:sm_60", "--count", "none"])).rejects.toThrow('--count: "none"');
  });
});
