import type { HostBlock } from "../driver/api.ts";
import type { Device } from "../driver/device.ts";
import type { KernelFunction } from "../driver/module.ts";
import type { Stream } from "../driver/stream.ts";
import { argLayout, compilePacker, type Packer } from "./arguments.ts";
import type { KernelShape } from "./library.ts";
import type { ArgSpec, ArgValues } from "./spec.ts";

export interface CustomKernelOptions<A extends ArgSpec> {
  /** PTX text; the driver compiles it for the device. */
  readonly ptx: string | Uint8Array;
  /** The `.entry` to launch. */
  readonly symbol: string;
  /** The parameters in the entry's order, by names of your choice: `{ out: "ptr", factor: "f32", count: "i64" }`. */
  readonly args: A;
  /** Appears in errors; by default the symbol. */
  readonly name?: string;
}

/** A kernel of your own. Pass `tensor.ptr` for pointers. */
export class CustomKernel<A extends ArgSpec> implements Disposable {
  readonly device: Device;
  readonly function: KernelFunction;
  readonly #block: HostBlock;
  readonly #bytes: number;
  readonly #pack: Packer<A>;

  /** Throws ModuleError with the compiler's log for PTX that the driver refuses, CudaError for an entry that it lacks. */
  constructor(device: Device, options: CustomKernelOptions<A>) {
    const { ptx, symbol, args, name = symbol } = options;
    this.device = device;
    const { bytes, fields } = argLayout(args);
    const oneByOne = fields.some((field) => field.type === "tensorMap") ? fields.map((field) => field.offset) : [];
    this.#bytes = bytes;
    this.#block = device.api.scratch(Math.max(64, Math.ceil(bytes / 64) * 64), oneByOne);
    this.#pack = compilePacker(args, this.#block);
    const module = device.loadModule(typeof ptx === "string" ? new TextEncoder().encode(ptx) : ptx, name);
    try {
      this.function = module.getFunction(symbol);
    } catch (error) {
      module.dispose();
      throw error;
    }
  }

  /** Queues one launch; does not wait. Grid sizes must be at least 1. Addresses and sizes are taken as they are. */
  launch(shape: KernelShape, args: ArgValues<A>, stream: Stream = this.device.stream): void {
    this.#pack(args);
    const [x, y = 1, z = 1] = shape.grid;
    const [bx, by = 1, bz = 1] = typeof shape.block === "number" ? [shape.block] : shape.block;
    const sizes = { grid: [x, y, z], block: [bx, by, bz], sharedBytes: shape.sharedBytes ?? 0 } as const;
    this.function.launch(stream, sizes, this.#block, this.#bytes);
  }

  /** Unloads the module; launches that were queued must have finished. */
  dispose(): void {
    this.function.module.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
