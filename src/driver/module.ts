import type { FunctionAttributes, FunctionHandle, HostBlock, LaunchShape, ModuleHandle } from "./api.ts";
import type { Device } from "./device.ts";
import type { Stream } from "./stream.ts";

/** Compiled PTX. */
export class Module implements Disposable {
  readonly device: Device;
  readonly name: string;
  readonly handle: ModuleHandle;
  #disposed = false;

  /** Use `device.loadModule()`. */
  constructor(device: Device, name: string, handle: ModuleHandle) {
    this.device = device;
    this.name = name;
    this.handle = handle;
  }

  getFunction(symbol: string): KernelFunction {
    this.device.makeCurrent();
    return new KernelFunction(this, symbol, this.device.api.getFunction(this.handle, symbol));
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.device.makeCurrent();
    this.device.api.unloadModule(this.handle);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** One kernel entry point. Lives as long as its module. */
export class KernelFunction {
  readonly module: Module;
  readonly symbol: string;
  readonly handle: FunctionHandle;
  #dynamicShared = 48 * 1024;

  constructor(module: Module, symbol: string, handle: FunctionHandle) {
    this.module = module;
    this.symbol = symbol;
    this.handle = handle;
  }

  get attributes(): FunctionAttributes {
    this.module.device.makeCurrent();
    return this.module.device.api.functionAttributes(this.handle);
  }

  /** Blocks of this kernel that fit on one multiprocessor at once. */
  activeBlocks(blockThreads: number, sharedBytes: number): number {
    this.module.device.makeCurrent();
    this.#reserveShared(sharedBytes);
    return this.module.device.api.maxActiveBlocksPerMultiprocessor(this.handle, blockThreads, sharedBytes);
  }

  /** Launches with the first `argBytes` bytes of `args`, which may be reused as soon as this returns. */
  launch(stream: Stream, shape: LaunchShape, args: HostBlock, argBytes: number, overlap = false): void {
    const device = this.module.device;
    device.makeCurrent();
    this.#reserveShared(shape.sharedBytes);
    device.api.launch(this.handle, shape, stream.handle, args, argBytes, overlap);
  }

  #reserveShared(bytes: number): void {
    if (bytes <= this.#dynamicShared) return;
    this.module.device.api.setMaxDynamicShared(this.handle, bytes);
    this.#dynamicShared = bytes;
  }
}
