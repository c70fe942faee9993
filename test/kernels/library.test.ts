import { expect, test } from "vitest";
import type { Device } from "../../src/driver/device.ts";
import type { Stream } from "../../src/driver/stream.ts";
import { unaryKernel } from "../../src/kernels/elementwise/elementwise.ts";
import { fillKernel } from "../../src/kernels/fill/fill.ts";
import { chosenFiles, loadAllModules } from "../../src/kernels/inspect.ts";
import { chooseTarget, launch } from "../../src/kernels/library.ts";
import { defineKernel } from "../../src/kernels/spec.ts";

interface Launched {
  readonly symbol: string;
  readonly grid: number[];
  readonly block: number[];
  readonly args: number[];
  readonly overlap: boolean;
}

/** A device that records what is loaded and launched; only what the library touches exists. */
function recorder(capability: number) {
  const loads: string[] = [];
  const launches: Launched[] = [];
  const device = {
    attributes: { capability },
    api: { scratch: (bytes: number) => ({ address: 0n, buffer: new ArrayBuffer(bytes), devicePtr: undefined }) },
    loadModule(_: Uint8Array, name: string) {
      loads.push(name);
      return {
        [Symbol.dispose]() {},
        getFunction: (symbol: string) => ({
          launch(
            __: Stream,
            shape: { grid: number[]; block: number[] },
            args: { buffer: ArrayBuffer },
            argBytes: number,
            overlap: boolean,
          ) {
            launches.push({
              symbol,
              grid: [...shape.grid],
              block: [...shape.block],
              args: [...new Uint8Array(args.buffer, 0, argBytes)],
              overlap,
            });
          },
        }),
      };
    },
  } as unknown as Device;
  return { device, stream: { device } as Stream, loads, launches };
}

const someArgs = { out: 0n, x: 0n, count: 1n, op: 0, vector: 0 };

test("a module is loaded at its first launch only, once per variant and device", () => {
  const one = recorder(80);
  const two = recorder(75);
  for (const { stream } of [one, one, two]) {
    for (const dtype of ["f32", "bf16", "f32"] as const) {
      launch(stream, unaryKernel, { dtype }, { grid: [1], block: 32 }, someArgs);
    }
  }
  expect(one.loads).toEqual(["unary/unary_f32.sm_60.ptx", "unary/unary_bf16.sm_80.ptx"]);
  expect(two.loads).toEqual(["unary/unary_f32.sm_60.ptx", "unary/unary_bf16.sm_60.ptx"]);
  expect(one.launches.map((l) => l.symbol)).toEqual(
    ["f32", "bf16", "f32", "f32", "bf16", "f32"].map((t) => `unary_${t}`),
  );
});

test("a launch has its own shape and arguments, whatever the one before it had", () => {
  const { stream, launches } = recorder(80);
  launch(stream, fillKernel, {}, { grid: [3, 4, 5], block: [8, 4, 2] }, { out: 256n, pattern: 1n, bytes: 2n });
  launch(stream, fillKernel, {}, { grid: [7], block: 64 }, { out: 1n, pattern: 0n, bytes: 0n });
  expect(launches[0]).toMatchObject({ grid: [3, 4, 5], block: [8, 4, 2] });
  expect(launches[1]).toMatchObject({ grid: [7, 1, 1], block: [64, 1, 1] });
  expect(launches[0]!.args.filter((b) => b !== 0)).toEqual([1, 1, 2]);
  expect(launches[1]!.args).toEqual([1, ...new Array<number>(23).fill(0)]);
});

test("kernels built for targets before sm_90 never overlap with the one before them", () => {
  const { stream, launches } = recorder(90);
  launch(stream, unaryKernel, { dtype: "f16" }, { grid: [1], block: 32 }, someArgs, { overlap: true });
  expect(launches[0]!.overlap).toBe(false);
});

test("a PTX file that is not there is an error that says what to do", () => {
  const { stream, device } = recorder(80);
  const spec = defineKernel({ family: "absent", source: "absent.cu", args: {}, axes: {}, targets: ["sm_60"] });
  expect(chooseTarget(spec, {}, device)).toBe("sm_60");
  expect(() => launch(stream, spec, {}, { grid: [1], block: 1 }, {})).toThrow(
    /kernel file ptx\/absent\/absent\.sm_60\.ptx cannot be read; reinstall llcuda/,
  );
});

test("the doctor loads the file of every symbol that this GPU would take", () => {
  const old = recorder(60);
  const reports = [...loadAllModules(old.device)];
  expect(reports.every((r) => r.error === undefined && r.target === "sm_60")).toBe(true);
  expect(old.loads).toEqual(reports.map((r) => r.file));
  const hopper = [...loadAllModules(recorder(90).device)];
  expect(hopper.find((r) => r.symbol === "unary_bf16")?.target).toBe("sm_80");
  expect(hopper.length).toBeGreaterThan(reports.length - 1);
});

test("a symbol without a runnable target is left out", () => {
  const file = { version: "8.0", inputs: "", text: "" };
  const manifest = {
    compiler: "",
    files: [
      { ...file, symbol: "a", target: "sm_60" as const },
      { ...file, symbol: "a", target: "sm_80" as const },
      { ...file, symbol: "b", target: "sm_90a" as const },
    ],
  };
  expect(chosenFiles(manifest, ["sm_75", "sm_70", "sm_60"])).toEqual([{ symbol: "a", target: "sm_60" }]);
});
