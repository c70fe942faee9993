import type { ContextHandle, EventHandle, GraphExecHandle, GraphHandle, StreamHandle } from "../../driver/api.ts";
import { found, simError } from "./errors.ts";

/** One thing a stream does. `kind` is what two graphs must agree on to have the same topology. */
export interface Task {
  readonly kind: string;
  readonly run: () => void;
}

interface Capture {
  readonly origin: SimStream;
  readonly nodes: Task[];
  /** Streams that events drew in and that the origin has not waited for. */
  readonly joined: Set<SimStream>;
  invalid: boolean;
}

interface SimStream {
  readonly context: ContextHandle;
  capture: Capture | undefined;
}

interface SimEvent {
  readonly context: ContextHandle;
  readonly timing: boolean;
  recordedMs: number | undefined;
  captured: { readonly capture: Capture; readonly stream: SimStream } | undefined;
}

/**
 * Streams, events, captures and graphs. What is submitted runs before the call returns, so that every stream is idle
 * and every event has happened; captures obey the driver's rules.
 */
export class SimStreams {
  readonly #streams = new Map<StreamHandle, SimStream>();
  readonly #events = new Map<EventHandle, SimEvent>();
  readonly #graphs = new Map<GraphHandle, readonly Task[]>();
  readonly #execs = new Map<GraphExecHandle, readonly Task[]>();
  readonly #handle: () => bigint;

  constructor(handle: () => bigint) {
    this.#handle = handle;
  }

  create(context: ContextHandle): StreamHandle {
    const handle = this.#handle() as StreamHandle;
    this.#streams.set(handle, { context, capture: undefined });
    return handle;
  }

  destroy(of: StreamHandle): void {
    this.#stream(of, "cuStreamDestroy_v2");
    this.#streams.delete(of);
  }

  contextOf(of: StreamHandle, symbol: string): ContextHandle {
    return this.#stream(of, symbol).context;
  }

  submit(of: StreamHandle, task: Task, symbol: string): void {
    const { capture } = this.#stream(of, symbol);
    if (capture) capture.nodes.push(task);
    else task.run();
  }

  synchronize(of: StreamHandle): void {
    const { capture } = this.#stream(of, "cuStreamSynchronize");
    if (capture) this.#refuse("cuStreamSynchronize", capture);
  }

  query(of: StreamHandle): boolean {
    const { capture } = this.#stream(of, "cuStreamQuery");
    if (capture) this.#refuse("cuStreamQuery", capture);
    return true;
  }

  createEvent(context: ContextHandle, timing: boolean): EventHandle {
    const handle = this.#handle() as EventHandle;
    this.#events.set(handle, { context, timing, recordedMs: undefined, captured: undefined });
    return handle;
  }

  destroyEvent(of: EventHandle): void {
    this.#event(of, "cuEventDestroy_v2");
    this.#events.delete(of);
  }

  record(of: EventHandle, on: StreamHandle): void {
    const event = this.#event(of, "cuEventRecord");
    const stream = this.#stream(on, "cuEventRecord");
    event.captured = stream.capture ? { capture: stream.capture, stream } : undefined;
    if (!stream.capture) event.recordedMs = performance.now();
  }

  wait(on: StreamHandle, of: EventHandle): void {
    const { captured } = this.#event(of, "cuStreamWaitEvent");
    const stream = this.#stream(on, "cuStreamWaitEvent");
    if (!captured) return;
    const { capture } = captured;
    if (stream === capture.origin) capture.joined.delete(captured.stream);
    else capture.joined.add(stream);
    stream.capture = capture;
  }

  queryEvent(of: EventHandle): boolean {
    const { captured } = this.#event(of, "cuEventQuery");
    if (captured) this.#refuse("cuEventQuery", captured.capture);
    return true;
  }

  synchronizeEvent(of: EventHandle): void {
    const { captured } = this.#event(of, "cuEventSynchronize");
    if (captured) this.#refuse("cuEventSynchronize", captured.capture);
  }

  elapsedMs(start: EventHandle, end: EventHandle): number {
    const symbol = "cuEventElapsedTime";
    const [a, b] = [this.#event(start, symbol), this.#event(end, symbol)];
    if (!a.timing || !b.timing || a.recordedMs === undefined || b.recordedMs === undefined) {
      throw simError(symbol, "CUDA_ERROR_INVALID_HANDLE", "both events need timing and must have been recorded");
    }
    return b.recordedMs - a.recordedMs;
  }

  beginCapture(of: StreamHandle): void {
    const stream = this.#stream(of, "cuStreamBeginCapture_v2");
    if (stream.capture) {
      throw simError("cuStreamBeginCapture_v2", "CUDA_ERROR_ILLEGAL_STATE", "the stream is being captured already");
    }
    stream.capture = { origin: stream, nodes: [], joined: new Set(), invalid: false };
  }

  endCapture(of: StreamHandle): GraphHandle {
    const symbol = "cuStreamEndCapture";
    const stream = this.#stream(of, symbol);
    const { capture } = stream;
    if (capture?.origin !== stream) {
      throw simError(symbol, "CUDA_ERROR_ILLEGAL_STATE", "no capture was begun on this stream");
    }
    for (const other of this.#streams.values()) if (other.capture === capture) other.capture = undefined;
    for (const event of this.#events.values()) if (event.captured?.capture === capture) event.captured = undefined;
    if (capture.invalid) {
      throw simError(
        symbol,
        "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
        "a call that waits for the device ended the capture",
      );
    }
    if (capture.joined.size > 0) {
      throw simError(symbol, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "another stream was drawn in and not waited for");
    }
    const graph = this.#handle() as GraphHandle;
    this.#graphs.set(graph, capture.nodes);
    return graph;
  }

  nodeCount(graph: GraphHandle): number {
    return found(this.#graphs.get(graph), "cuGraphGetNodes", "graph").length;
  }

  destroyGraph(graph: GraphHandle): void {
    found(this.#graphs.get(graph), "cuGraphDestroy", "graph");
    this.#graphs.delete(graph);
  }

  instantiate(graph: GraphHandle): GraphExecHandle {
    const exec = this.#handle() as GraphExecHandle;
    this.#execs.set(exec, found(this.#graphs.get(graph), "cuGraphInstantiate", "graph"));
    return exec;
  }

  update(exec: GraphExecHandle, graph: GraphHandle): boolean {
    const symbol = "cuGraphExecUpdate_v2";
    const after = found(this.#graphs.get(graph), symbol, "graph");
    const before = found(this.#execs.get(exec), symbol, "executable graph");
    if (before.length !== after.length || before.some(({ kind }, i) => kind !== after[i]!.kind)) return false;
    this.#execs.set(exec, after);
    return true;
  }

  launch(exec: GraphExecHandle, on: StreamHandle): void {
    const tasks = found(this.#execs.get(exec), "cuGraphLaunch", "executable graph");
    for (const task of tasks) this.submit(on, task, "cuGraphLaunch");
  }

  destroyExec(exec: GraphExecHandle): void {
    found(this.#execs.get(exec), "cuGraphExecDestroy", "executable graph");
    this.#execs.delete(exec);
  }

  /** What a context owns goes with it. */
  dropContext(context: ContextHandle): void {
    for (const [handle, stream] of this.#streams) if (stream.context === context) this.#streams.delete(handle);
    for (const [handle, event] of this.#events) if (event.context === context) this.#events.delete(handle);
  }

  /** For calls that wait for the whole device: they end every capture under way. */
  refuseDuringCapture(symbol: string): void {
    for (const { capture } of this.#streams.values()) if (capture) this.#refuse(symbol, capture);
  }

  #refuse(symbol: string, capture: Capture): never {
    capture.invalid = true;
    throw simError(symbol, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "a captured stream cannot be waited for");
  }

  #stream(of: StreamHandle, symbol: string): SimStream {
    return found(this.#streams.get(of), symbol, "stream");
  }

  #event(of: EventHandle, symbol: string): SimEvent {
    return found(this.#events.get(of), symbol, "event");
  }
}
