import { ArgumentError } from "../../base/errors.ts";
import type { Device } from "../../driver/device.ts";
import { deviceBase } from "../memory-map.ts";
import type { PtxModule } from "../ptx/ast.ts";
import { softwareApi } from "../software-api.ts";
import { ThreadTrace } from "./thread-trace.ts";
import type { TraceStep } from "./trace-step.ts";

export interface TraceOptions {
  /** The thread: its block, and its place in it. Both are (0, 0, 0) by default. */
  readonly block?: readonly [number, number, number];
  readonly thread?: readonly [number, number, number];
  /** How many instructions to keep (1000), after leaving out some at the begin. */
  readonly limit?: number;
  readonly skip?: number;
  /** Only kernels of this name. */
  readonly kernel?: string;
}

/** What one thread did in the first launch of a kernel. */
export interface KernelTrace {
  readonly kernel: string;
  /** The PTX file, and the source files that its lines name. */
  readonly module: Pick<PtxModule, "name" | "files">;
  /** Instructions that the thread came to, also those that were not kept; 0 when there is no such thread. */
  readonly count: number;
  readonly steps: readonly TraceStep[];
}

/**
 * Records what one thread does on a software device, instruction by instruction, with the values of registers and the
 * addresses of accesses, from its making until it is disposed. A launch that fails leaves what came before.
 */
export class Tracer implements Disposable {
  readonly #traces: ThreadTrace[] = [];
  readonly #stop: () => void;

  /** Throws ArgumentError for a device that is a GPU, StateError where another tracer or profiler watches it. */
  constructor(device: Device, options: TraceOptions = {}) {
    const { block = [0, 0, 0], thread = [0, 0, 0], limit = 1000, skip = 0 } = options;
    for (const [name, value] of Object.entries({ limit, skip })) {
      if (!Number.isSafeInteger(value) || value < 0) {
        throw new ArgumentError(`Tracer: ${name} must be a whole number of at least 0, got ${value}`);
      }
    }
    const api = softwareApi(device, "Tracer");
    const window = { block, thread, limit, skip, deviceBase: deviceBase(device.ordinal) };
    api.watch(device.ordinal, {
      flow: { steps: true, operands: true },
      kernel: options.kernel,
      watch: (kernel, memory, base) => {
        const trace = new ThreadTrace(kernel, memory, base, window);
        this.#traces.push(trace);
        return trace;
      },
    });
    this.#stop = () => api.watch(device.ordinal, undefined);
  }

  /** A trace of every kernel that has run, in the order of their first launches. */
  get kernels(): KernelTrace[] {
    return this.#traces.map(({ kernel, count, steps }) => {
      return { kernel: kernel.entry.name, module: kernel.module, count, steps };
    });
  }

  /** Kernels are not watched any more; what was recorded stays. */
  dispose(): void {
    this.#stop();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
