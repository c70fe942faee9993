/** A thread of a team: waits for launches, joins them, and takes blocks. It runs until its process or its owner ends it. */
import { type MessagePort, receiveMessageOnPort, workerData } from "node:worker_threads";
import type { CompiledKernel } from "../compile/kernel.ts";
import { type KernelHost, KernelInstance } from "../run/launch.ts";
import { LinearMemory } from "../run/views.ts";
import { type LaunchDescription, TeamControl } from "./control.ts";
import { describeFailure } from "./failure.ts";
import type { OwnerMessage, ThreadMessage, ThreadStart } from "./messages.ts";

class TeamThread implements KernelHost {
  readonly memory: LinearMemory;
  readonly deviceBase: bigint;
  readonly checked = undefined;
  readonly #port: MessagePort;
  readonly #control: TeamControl;
  readonly #executor: number;
  readonly #kernels = new Map<number, KernelInstance>();

  constructor(start: ThreadStart, port: MessagePort) {
    this.memory = new LinearMemory(start.memory);
    this.deviceBase = start.deviceBase;
    this.#executor = start.executor;
    this.#control = new TeamControl(start.control);
    this.#port = port;
  }

  loop(): never {
    const control = this.#control;
    for (let last = -1; ; ) {
      const launches = control.launches;
      if (launches === last) {
        control.waitForLaunch(last);
        continue;
      }
      last = launches;
      const joined = control.join();
      if (!joined) continue;
      try {
        this.#run(joined.launch, joined.parameters);
      } finally {
        control.leave();
      }
    }
  }

  #run(launch: LaunchDescription, parameters: Uint8Array): void {
    let kernel: KernelInstance | undefined;
    try {
      this.memory.refresh();
      kernel = this.#kernel(launch.kernel);
      kernel.run(launch, parameters, () => this.#control.takeBlock());
    } catch (error) {
      this.#control.fail();
      this.#post({ kind: "failure", block: kernel?.blockNumber ?? 0, failure: describeFailure(error) });
    }
  }

  #kernel(id: number): KernelInstance {
    for (;;) {
      const known = this.#kernels.get(id);
      if (known) return known;
      const message = this.#receive();
      if (message?.kind === "kernel") this.#bind(message.id, message.kernel);
    }
  }

  #bind(id: number, kernel: CompiledKernel): void {
    this.#kernels.set(id, new KernelInstance(kernel, this, this.#executor));
  }

  foreign(address: bigint, bytes: number): number | undefined {
    const found = this.#ask({ kind: "foreign", address, bytes });
    this.memory.refresh();
    return typeof found === "number" ? found : undefined;
  }

  describeAddress(address: bigint): string {
    return String(this.#ask({ kind: "describe", address }));
  }

  /** The owner answers when it has no block of its own to run. */
  #ask(question: ThreadMessage): number | string | undefined {
    const seen = this.#control.answers(this.#executor);
    this.#post(question);
    this.#control.ring();
    this.#control.waitForAnswer(this.#executor, seen);
    for (;;) {
      const message = this.#receive();
      if (message?.kind === "answer") return message.value;
      if (message?.kind === "kernel") this.#bind(message.id, message.kernel);
    }
  }

  #post(message: ThreadMessage): void {
    this.#port.postMessage(message);
  }

  #receive(): OwnerMessage | undefined {
    return receiveMessageOnPort(this.#port)?.message as OwnerMessage | undefined;
  }
}

const { start, port } = workerData as { start: ThreadStart; port: MessagePort };
new TeamThread(start, port).loop();
