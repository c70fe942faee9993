import { float32 } from "../src/base/dtype.ts";
import type { DevicePtr } from "../src/driver/api.ts";
import type { Device } from "../src/driver/device.ts";
import { KernelFunction, type Module } from "../src/driver/module.ts";
import type { Stream } from "../src/driver/stream.ts";
import { argLayout, compilePacker } from "../src/kernels/arguments.ts";
import { binary, binaryKernel, unary, unaryKernel } from "../src/kernels/elementwise/elementwise.ts";
import { launch } from "../src/kernels/library.ts";
import type { ArgSpec } from "../src/kernels/spec.ts";
import type { Bench } from "./support/bench.ts";
import { formatTable, type Row } from "./support/table.ts";

/** Calls per sample, and samples; the fastest sample is printed, since what disturbs a host call only adds to it. */
const calls = 50_000;
const samples = 15;

/**
 * What a kernel launch costs in JavaScript, by part: packing arguments, `launch()`, and whole launchers, on a device
 * whose driver call does nothing. The driver's own share is `bench ffi`. Needs no GPU.
 */
export const bench: Bench = {
  async run(args) {
    if (args.includes("--help")) {
      console.log("Usage: npm run bench -- launch   (needs no GPU)");
      return 0;
    }
    const runtime = process.versions.bun ? `Bun ${process.versions.bun}` : `Node ${process.versions.node}`;
    console.log(`${runtime}, ${process.platform}-${process.arch}: fastest of ${samples} samples\n`);
    console.log(formatTable(measure()));
    return 0;
  },
};

function measure(): Row[] {
  const stream = idleStream();
  const out = 0x7f12_3456_7800n as DevicePtr;
  const five = { out, x: out, count: 4096n, op: 9, vector: 1 };
  const fourteen = {
    ...{ out, a: out, b: out, items: 4096n, op: 0, vector: 1, aKind: 0, bKind: 0, floatConstant: 0 },
    ...{ integerConstant: 0n, rank: 2, shape: [16, 64], aStrides: [256, 4], bStrides: [0, 4] },
  };
  const variant = { dtype: "f32" } as const;
  const shape = { grid: [64], block: 256 } as const;
  const packFive = packerOf(unaryKernel.args);
  const packFourteen = packerOf(binaryKernel.args);
  const view = { shape: [16, 256], aStrides: [256, 1], bStrides: [0, 1] };
  const cases: Record<string, () => void> = {
    "pack 5 arguments": () => packFive(five),
    "pack 14 arguments, 3 of them dims": () => packFourteen(fourteen),
    "the same, a loop over names": loopPacker(binaryKernel.args, fourteen),
    "launch() with 5 arguments": () => launch(stream, unaryKernel, variant, shape, five),
    "launch() with 14 arguments": () => launch(stream, binaryKernel, variant, shape, fourteen),
    "unary()": () => unary(stream, { op: "silu", out, x: out, count: 4096, dtype: float32 }),
    "binary() with a row broadcast": () => binary(stream, { op: "add", out, a: out, b: out, ...view, dtype: float32 }),
  };
  return Object.entries(cases).map(([name, run]) => ({ "in JavaScript": name, ns: fastest(run) }));
}

function fastest(run: () => void): number {
  const times = Array.from({ length: samples }, () => {
    const started = performance.now();
    for (let i = 0; i < calls; i++) run();
    return performance.now() - started;
  });
  return (Math.min(...times) / calls) * 1e6;
}

function packerOf<A extends ArgSpec>(args: A) {
  return compilePacker(args, { address: 0n, buffer: new ArrayBuffer(512), devicePtr: undefined });
}

/** What the generated packer replaces: one DataView, and a table of fields. */
function loopPacker(args: ArgSpec, values: Readonly<Record<string, unknown>>): () => void {
  const view = new DataView(new ArrayBuffer(512));
  const fields = argLayout(args).fields;
  return () => {
    for (const { name, type, offset } of fields) {
      const value = values[name];
      if (type === "ptr" || type === "u64" || type === "i64") view.setBigInt64(offset, value as bigint, true);
      else if (type === "f32") view.setFloat32(offset, value as number, true);
      else if (type === "dims") {
        for (const [i, size] of (value as number[]).entries()) view.setBigInt64(offset + 8 * i, BigInt(size), true);
      } else view.setInt32(offset, value as number, true);
    }
  };
}

/** A stream of a device that loads and launches nothing, but goes through the same objects as a real one. */
function idleStream(): Stream {
  const api = {
    scratch: (bytes: number) => ({ address: 0n, buffer: new ArrayBuffer(bytes), devicePtr: undefined }),
    launch: () => {},
  };
  const device = {
    attributes: { capability: 90, multiprocessors: 132, maxThreadsPerMultiprocessor: 2048 },
    api,
    makeCurrent: () => {},
    loadModule: () => module,
  } as unknown as Device;
  const module: Module = {
    device,
    getFunction: (symbol: string) => new KernelFunction(module, symbol, 1n as never),
  } as unknown as Module;
  return { device, handle: 1n } as unknown as Stream;
}
