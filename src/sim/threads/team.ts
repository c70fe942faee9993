import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from "node:worker_threads";
import type { LaunchShape } from "../../driver/api.ts";
import { memoryMap } from "../memory-map.ts";
import type { KernelHost, KernelInstance } from "../run/launch.ts";
import { TeamControl } from "./control.ts";
import { restoreFailure } from "./failure.ts";
import type { OwnerMessage, ThreadMessage, ThreadStart } from "./messages.ts";

interface Thread {
  readonly executor: number;
  readonly worker: Worker;
  readonly port: MessagePort;
}

/** Below this many threads in a grid, waking another thread costs more than it saves. */
const worthwhileThreads = 512;

/**
 * Threads that run the blocks of one device's launches together with the thread that owns the device. A launch does not
 * wait for threads that are still starting or busy elsewhere: they find it closed.
 */
export class Team implements Disposable {
  readonly #host: KernelHost;
  readonly #control = new TeamControl();
  readonly #threads: readonly Thread[];
  readonly #kernels = new Map<KernelInstance, number>();

  /** `threads` counts the owner. */
  constructor(host: KernelHost, threads: number) {
    this.#host = host;
    this.#threads = Array.from({ length: Math.min(threads, memoryMap.executors) - 1 }, (_, i) => this.#start(i + 1));
  }

  #start(executor: number): Thread {
    const { port1, port2 } = new MessageChannel();
    const start: ThreadStart = {
      executor,
      control: this.#control.buffer,
      memory: this.#host.memory.memory,
      deviceBase: this.#host.deviceBase,
    };
    const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
    const worker = new Worker(new URL(`./worker.${extension}`, import.meta.url), {
      workerData: { start, port: port2 },
      transferList: [port2],
      // Built code needs none of the process's options, some of which (--input-type) a thread would refuse.
      ...(extension === "js" ? { execArgv: [] } : {}),
    });
    // A thread that cannot start is one that never joins; the process may end while threads wait.
    worker.on("error", () => {});
    worker.unref();
    port1.unref();
    return { executor, worker, port: port1 };
  }

  /** Whether a launch should be run here rather than by its owner alone. */
  static isWorthwhile(instance: KernelInstance, { grid, block }: LaunchShape): boolean {
    const blocks = grid[0] * grid[1] * grid[2];
    const threads = blocks * block[0] * block[1] * block[2];
    if (instance.isWatched) return false;
    return instance.kernel.independentBlocks && blocks > 1 && blocks < 2 ** 31 && threads >= worthwhileThreads;
  }

  /** Runs every block; of several faults, throws that of the first block. */
  run(instance: KernelInstance, shape: LaunchShape, parameters: Uint8Array): void {
    const control = this.#control;
    control.open({ kernel: this.#number(instance), ...shape }, parameters);
    const failures: { block: number; error: unknown }[] = [];
    try {
      instance.run(shape, parameters, () => control.takeBlock());
    } catch (error) {
      control.fail();
      failures.push({ block: instance.blockNumber, error });
    }
    control.close();
    for (;;) {
      const bell = control.bell;
      failures.push(...this.#serve());
      if (control.inside === 0) break;
      control.waitForBell(bell);
    }
    failures.push(...this.#serve());
    if (failures.length === 0) return;
    throw failures.reduce((first, other) => (other.block < first.block ? other : first)).error;
  }

  #number(instance: KernelInstance): number {
    const known = this.#kernels.get(instance);
    if (known !== undefined) return known;
    const id = this.#kernels.size;
    this.#kernels.set(instance, id);
    for (const { port } of this.#threads) post(port, { kind: "kernel", id, kernel: instance.kernel });
    return id;
  }

  /** Answers what threads have asked; returns how blocks failed. */
  #serve(): { block: number; error: unknown }[] {
    const failures: { block: number; error: unknown }[] = [];
    for (const { executor, port } of this.#threads) {
      for (;;) {
        const message = receiveMessageOnPort(port)?.message as ThreadMessage | undefined;
        if (!message) break;
        if (message.kind === "failure") {
          failures.push({ block: message.block, error: restoreFailure(message.failure) });
          continue;
        }
        const { address } = message;
        const value =
          message.kind === "foreign" ? this.#host.foreign(address, message.bytes) : this.#host.describeAddress(address);
        post(port, { kind: "answer", value });
        this.#control.answer(executor);
      }
    }
    return failures;
  }

  [Symbol.dispose](): void {
    for (const { worker, port } of this.#threads) {
      port.close();
      void worker.terminate();
    }
  }
}

function post(port: MessagePort, message: OwnerMessage): void {
  port.postMessage(message);
}
