import type { GraphExecHandle, GraphHandle } from "./api.ts";
import type { Device } from "./device.ts";
import type { Stream } from "./stream.ts";

/** Captured work that has not been prepared for launching. */
export class Graph implements Disposable {
  readonly device: Device;
  readonly handle: GraphHandle;
  #disposed = false;

  /** Use `stream.capture()`. */
  constructor(device: Device, handle: GraphHandle) {
    this.device = device;
    this.handle = handle;
  }

  get nodeCount(): number {
    return this.device.api.graphNodeCount(this.handle);
  }

  instantiate(): ExecutableGraph {
    this.device.makeCurrent();
    return new ExecutableGraph(this.device, this.device.api.instantiateGraph(this.handle));
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.device.api.destroyGraph(this.handle);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** A graph that launches as one call. Memory that its nodes use must outlive it. */
export class ExecutableGraph implements Disposable {
  readonly device: Device;
  readonly handle: GraphExecHandle;
  #disposed = false;

  constructor(device: Device, handle: GraphExecHandle) {
    this.device = device;
    this.handle = handle;
  }

  launch(stream: Stream): void {
    this.device.makeCurrent();
    this.device.api.launchGraph(this.handle, stream.handle);
  }

  /** Takes over the parameters of a graph with the same topology; false when it must be instantiated anew. */
  update(graph: Graph): boolean {
    this.device.makeCurrent();
    return this.device.api.updateGraph(this.handle, graph.handle);
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.device.makeCurrent();
    this.device.api.destroyGraphExec(this.handle);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
