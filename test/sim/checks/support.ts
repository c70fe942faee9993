import type { Device } from "../../../src/driver/device.ts";
import type { DeviceBuffer } from "../../../src/driver/memory.ts";
import type { KernelFunction } from "../../../src/driver/module.ts";
import { SimProvider } from "../../../src/sim/provider.ts";

/** A software device that watches its kernels. */
export function checkedDevice(name = "sim:sm_80"): Device {
  return new SimProvider({ checks: true }).open(name);
}

/**
 * A kernel of one pointer parameter. Each line of `source` is one line of `bug.cu`, which the text names with `.loc`, and may hold
 * several PTX instructions. The registers are %out (the parameter), %a, %b (64 bits), %t (the thread), %r0 to %r9, %f0 to
 * %f9, %p and %q; `declarations` come first and have no line, nor have those
 * of the module.
 */
export function kernel(on: Device, source: readonly string[], declarations = "", ofModule = ""): KernelFunction {
  const text = kernelText(source, declarations, ofModule);
  return on.loadModule(new TextEncoder().encode(text), "test/bug").getFunction("bug");
}

function kernelText(source: readonly string[], declarations: string, ofModule: string): string {
  const lines = source.flatMap((line, i) => [`.loc 1 ${i + 1} 0`, line]);
  return [
    ".version 7.0",
    ".target sm_60",
    `.address_size 64 ${ofModule}`,
    ".visible .entry bug(.param .u64 out)",
    "{",
    ".reg .b64 %out, %a, %b; .reg .b32 %t, %r<10>; .reg .f32 %f<10>; .reg .pred %p, %q;",
    declarations,
    "ld.param.u64 %out, [out]; mov.u32 %t, %tid.x; mad.wide.u32 %a, %t, 4, %out;",
    ...lines,
    "ret;",
    "}",
    '.file 1 "bug.cu"',
    "",
  ].join("\n");
}

/** The line of the PTX text that a line of `source` is on. */
export function ptxLine(sourceLine: number): number {
  return 8 + 2 * sourceLine;
}

export function launch(fn: KernelFunction, buffer: DeviceBuffer | bigint, threads = 32, dynamicBytes = 0): void {
  const { device } = fn.module;
  const args = device.api.scratch(8);
  new DataView(args.buffer).setBigUint64(0, typeof buffer === "bigint" ? buffer : buffer.ptr, true);
  fn.launch(device.stream, { grid: [1, 1, 1], block: [threads, 1, 1], sharedBytes: dynamicBytes }, args, 8);
}

/** The message of the error that `run` throws, or "clean". */
export function verdict(run: () => void): string {
  try {
    run();
  } catch (error) {
    return (error as Error).message;
  }
  return "clean";
}
