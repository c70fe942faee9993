import type { Device } from "../../driver/device.ts";
import { softwareApi } from "../software-api.ts";
import { KernelCounter } from "./kernel-counter.ts";
import type { KernelProfile } from "./kernel-profile.ts";

/**
 * Counts what kernels do on a software device, from its making until it is disposed: yours, and those that tensors and models
 * launch. It takes a few times as long as running them. Numbers are those of a GPU's warps, under the assumptions that
 * docs/sim.md states; what caches hold and how long anything takes is not simulated.
 */
export class Profiler implements Disposable {
  readonly #counters: KernelCounter[] = [];
  readonly #stop: () => void;

  /** Throws ArgumentError for a device that is a GPU, StateError where another profiler or tracer watches it. */
  constructor(device: Device) {
    const api = softwareApi(device, "Profiler");
    api.watch(device.ordinal, {
      flow: { steps: true, operands: false },
      watch: (kernel, memory, base) => {
        const counter = new KernelCounter(kernel, memory, base);
        this.#counters.push(counter);
        return counter;
      },
    });
    this.#stop = () => api.watch(device.ordinal, undefined);
  }

  /** A profile of every kernel that has run, in the order of their first launches. */
  get kernels(): KernelProfile[] {
    return this.#counters.map((counter) => counter.profile);
  }

  /** Kernels are not watched any more; what was counted stays. */
  dispose(): void {
    this.#stop();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
