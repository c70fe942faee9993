import { ArgumentError, CudaError, OutOfMemoryError } from "../../base/errors.ts";
import type { DevicePtr, LaunchShape } from "../../driver/api.ts";
import type { Device } from "../../driver/device.ts";
import type { KernelFunction } from "../../driver/module.ts";
import type { Entry } from "../../sim/ptx/ast.ts";
import type { ElementType } from "./element-types.ts";
import { byteCount, type HostBuffer, makeBuffer } from "./host-buffer.ts";
import type { KernelArgument } from "./kernel-arguments.ts";
import type { KernelFile } from "./kernel-file.ts";

/** A parameter's value: a number, or the buffer whose address it is. */
type Parameter = { readonly type: ElementType; readonly value: number | bigint } | { readonly buffer: HostBuffer };

/** A kernel with arguments that fit its parameters; nothing has touched a device yet. */
export interface PreparedRun {
  readonly kernel: KernelFile;
  readonly parameters: readonly Parameter[];
  readonly buffers: readonly HostBuffer[];
  readonly shape: LaunchShape;
}

/** Reads the files of buffers and compares the arguments with the kernel's parameters. Throws ArgumentError and what files throw. */
export function prepareRun(kernel: KernelFile, args: readonly KernelArgument[], shape: LaunchShape): PreparedRun {
  const { entry } = kernel;
  if (args.length !== entry.parameters.length) {
    const wanted = entry.parameters.map((p) => `${p.name} (${p.bytes} bytes)`).join(", ");
    throw new ArgumentError(
      `${entry.name} takes ${entry.parameters.length} arguments, got ${args.length} --arg${wanted === "" ? "" : `; they are ${wanted}`}`,
    );
  }
  const buffers = new Map<string, HostBuffer>();
  const parameters = args.map((argument, i): Parameter => {
    const { name, bytes } = entry.parameters[i]!;
    const given = argument.kind === "scalar" ? argument.type.bytes : 8;
    if (given !== bytes) {
      const what = argument.kind === "scalar" ? `an ${argument.type.name}` : "a buffer's address";
      throw new ArgumentError(
        `argument ${i + 1} of ${entry.name}: ${name} has ${bytes} bytes, but ${what} has ${given}`,
      );
    }
    if (argument.kind === "scalar") return argument;
    if (argument.kind === "buffer") buffers.set(argument.name, makeBuffer(argument, i));
    return { buffer: buffers.get(argument.name)! };
  });
  return { kernel, parameters, buffers: [...buffers.values()], shape };
}

/** What a run left in the buffers, by name, and how long the launch took. */
export interface RunResult {
  readonly contents: ReadonlyMap<string, Uint8Array>;
  readonly ms: number;
}

/** Runs a kernel once. Each buffer is an allocation of its own, so that what leaves it is noticed. Throws CudaError for its faults. */
export function runKernel(device: Device, { kernel, parameters, buffers, shape }: PreparedRun): RunResult {
  using module = device.loadModule(new TextEncoder().encode(kernel.text), kernel.name);
  const fn = module.getFunction(kernel.entry.name);
  const memory = new Map<HostBuffer, DevicePtr>();
  try {
    for (const buffer of buffers) memory.set(buffer, allocate(device, buffer));
    for (const [{ bytes }, ptr] of memory) if (bytes) upload(device, ptr, bytes);
    const begin = performance.now();
    launch(device, fn, kernel.entry, parameters, memory, shape);
    const ms = performance.now() - begin;
    const contents = new Map<string, Uint8Array>();
    for (const [buffer, ptr] of memory) contents.set(buffer.name, download(device, ptr, byteCount(buffer)));
    return { contents, ms };
  } finally {
    for (const ptr of memory.values()) device.api.free(ptr);
  }
}

function allocate(device: Device, buffer: HostBuffer): DevicePtr {
  try {
    device.makeCurrent();
    return device.api.allocate(byteCount(buffer), buffer.name);
  } catch (error) {
    if (!(error instanceof OutOfMemoryError)) throw error;
    throw new OutOfMemoryError(`buffer ${buffer.name}: ${error.message}`, error.wantedBytes, error.freeBytes);
  }
}

function upload(device: Device, to: DevicePtr, bytes: Uint8Array): void {
  using staging = device.allocatePinned(bytes.length);
  new Uint8Array(staging.buffer, 0, bytes.length).set(bytes);
  device.stream.copyToDevice(to, staging, 0, bytes.length);
}

function download(device: Device, from: DevicePtr, bytes: number): Uint8Array {
  using staging = device.allocatePinned(bytes);
  device.stream.copyToHost(staging, 0, from, bytes);
  device.stream.synchronize();
  return new Uint8Array(staging.buffer, 0, bytes).slice();
}

function launch(
  device: Device,
  fn: KernelFunction,
  entry: Entry,
  parameters: readonly Parameter[],
  memory: ReadonlyMap<HostBuffer, DevicePtr>,
  shape: LaunchShape,
): void {
  const args = device.api.scratch(Math.max(64, entry.parameterBytes));
  const view = new DataView(args.buffer);
  parameters.forEach((parameter, i) => {
    const { offset } = entry.parameters[i]!;
    if ("buffer" in parameter) view.setBigUint64(offset, memory.get(parameter.buffer)!, true);
    else parameter.type.write(view, offset, parameter.value);
  });
  try {
    fn.launch(device.stream, shape, args, entry.parameterBytes);
  } catch (error) {
    if (!(error instanceof CudaError) || memory.size === 0) throw error;
    const where = [...memory].map(([{ name }, ptr]) => `${name} is at 0x${ptr.toString(16)}`).join(", ");
    throw new CudaError(error.symbol, error.status, error.statusName, `${error.message} (${where})`);
  }
}
