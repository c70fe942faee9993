import { CudaError } from "../../src/base/errors.ts";
import type { EventHandle, GraphExecHandle, GraphHandle, StreamHandle } from "../../src/driver/api.ts";

/** One recording of an event: done when its stream gets there. */
interface Mark {
  readonly stream: FakeStream;
  done: boolean;
  atMs: number;
}

type Task = { readonly run: () => void } | { readonly waitFor: Mark };

interface Capture {
  readonly origin: FakeStream;
  readonly nodes: (() => void)[];
  /** Streams that events drew in and that the origin has not waited for. */
  readonly joined: Set<FakeStream>;
  invalid: boolean;
}

interface FakeStream {
  readonly handle: StreamHandle;
  readonly context: bigint;
  readonly queue: Task[];
  /** Held streams keep what is submitted until they are released, advanced or waited for. */
  held: boolean;
  capture: Capture | undefined;
}

interface FakeEvent {
  readonly context: bigint;
  readonly timing: boolean;
  mark: Mark | undefined;
  captured: { readonly capture: Capture; readonly stream: FakeStream } | undefined;
}

let nextHandle = 1n;
function handle<T extends bigint>(): T {
  return nextHandle++ as T;
}

/** Streams, events and graphs of the fake driver. Tasks run at once unless a stream is held or waits for one that is. */
export class FakeStreams {
  readonly #streams = new Map<StreamHandle, FakeStream>();
  readonly #events = new Map<EventHandle, FakeEvent>();
  readonly #graphs = new Map<GraphHandle, (() => void)[]>();
  readonly #execs = new Map<GraphExecHandle, (() => void)[]>();
  #clockMs = 0;

  get liveStreams(): number {
    return this.#streams.size;
  }
  get liveEvents(): number {
    return this.#events.size;
  }
  get liveGraphs(): number {
    return this.#graphs.size + this.#execs.size;
  }

  create(context: bigint): StreamHandle {
    const stream: FakeStream = { handle: handle(), context, queue: [], held: false, capture: undefined };
    this.#streams.set(stream.handle, stream);
    return stream.handle;
  }

  destroy(of: StreamHandle): void {
    const stream = this.#stream(of, "cuStreamDestroy_v2");
    this.#drain(stream);
    this.#streams.delete(of);
  }

  hold(of: StreamHandle): void {
    this.#stream(of, "hold").held = true;
  }

  release(of: StreamHandle): void {
    this.#stream(of, "release").held = false;
    this.#pump();
  }

  /** Runs the next `count` tasks of a held stream. */
  advance(of: StreamHandle, count = 1): void {
    const stream = this.#stream(of, "advance");
    for (let i = 0; i < count && stream.queue.length > 0; i++) this.#runNext(stream);
    this.#pump();
  }

  submit(of: StreamHandle, run: () => void, symbol: string): void {
    const stream = this.#stream(of, symbol);
    if (stream.capture) {
      stream.capture.nodes.push(run);
      return;
    }
    stream.queue.push({ run });
    this.#pump();
  }

  synchronize(of: StreamHandle): void {
    const stream = this.#stream(of, "cuStreamSynchronize");
    if (stream.capture) this.#refuse("cuStreamSynchronize", stream.capture);
    this.#drain(stream);
    this.#pump();
  }

  synchronizeContext(context: bigint): void {
    this.refuseDuringCapture("cuCtxSynchronize");
    for (const stream of this.#streams.values()) if (stream.context === context) this.#drain(stream);
    this.#pump();
  }

  idle(of: StreamHandle): boolean {
    const stream = this.#stream(of, "cuStreamQuery");
    if (stream.capture) this.#refuse("cuStreamQuery", stream.capture);
    return stream.queue.length === 0;
  }

  createEvent(context: bigint, timing: boolean): EventHandle {
    const event = handle<EventHandle>();
    this.#events.set(event, { context, timing, mark: undefined, captured: undefined });
    return event;
  }

  destroyEvent(of: EventHandle): void {
    this.#event(of, "cuEventDestroy_v2");
    this.#events.delete(of);
  }

  record(of: EventHandle, on: StreamHandle): void {
    const event = this.#event(of, "cuEventRecord");
    const stream = this.#stream(on, "cuEventRecord");
    if (stream.capture) {
      event.captured = { capture: stream.capture, stream };
      return;
    }
    const mark: Mark = { stream, done: false, atMs: 0 };
    event.captured = undefined;
    event.mark = mark;
    stream.queue.push({
      run: () => {
        mark.done = true;
        mark.atMs = this.#clockMs;
      },
    });
    this.#pump();
  }

  wait(on: StreamHandle, of: EventHandle): void {
    const event = this.#event(of, "cuStreamWaitEvent");
    const stream = this.#stream(on, "cuStreamWaitEvent");
    if (event.captured) {
      const { capture } = event.captured;
      if (stream === capture.origin) capture.joined.delete(event.captured.stream);
      else capture.joined.add(stream);
      stream.capture = capture;
      return;
    }
    if (stream.capture && event.mark && !event.mark.done) this.#refuse("cuStreamWaitEvent", stream.capture);
    if (event.mark) stream.queue.push({ waitFor: event.mark });
    this.#pump();
  }

  queryEvent(of: EventHandle): boolean {
    const event = this.#event(of, "cuEventQuery");
    if (event.captured) this.#refuse("cuEventQuery", event.captured.capture);
    return event.mark?.done ?? true;
  }

  synchronizeEvent(of: EventHandle): void {
    const event = this.#event(of, "cuEventSynchronize");
    if (event.captured) this.#refuse("cuEventSynchronize", event.captured.capture);
    if (event.mark) this.#reach(event.mark);
    this.#pump();
  }

  elapsedMs(start: EventHandle, end: EventHandle): number {
    const a = this.#event(start, "cuEventElapsedTime");
    const b = this.#event(end, "cuEventElapsedTime");
    if (!a.timing || !b.timing || !a.mark?.done || !b.mark?.done)
      throw error("cuEventElapsedTime", 400, "INVALID_HANDLE");
    return b.mark.atMs - a.mark.atMs;
  }

  beginCapture(of: StreamHandle): void {
    const stream = this.#stream(of, "cuStreamBeginCapture_v2");
    if (stream.capture) throw error("cuStreamBeginCapture_v2", 401, "ILLEGAL_STATE");
    stream.capture = { origin: stream, nodes: [], joined: new Set(), invalid: false };
  }

  endCapture(of: StreamHandle): GraphHandle {
    const stream = this.#stream(of, "cuStreamEndCapture");
    const capture = stream.capture;
    if (!capture || capture.origin !== stream) throw error("cuStreamEndCapture", 901, "STREAM_CAPTURE_INVALIDATED");
    for (const other of this.#streams.values()) if (other.capture === capture) other.capture = undefined;
    for (const event of this.#events.values()) if (event.captured?.capture === capture) event.captured = undefined;
    if (capture.invalid) throw error("cuStreamEndCapture", 901, "STREAM_CAPTURE_INVALIDATED");
    if (capture.joined.size > 0) throw error("cuStreamEndCapture", 904, "STREAM_CAPTURE_UNJOINED");
    const graph = handle<GraphHandle>();
    this.#graphs.set(graph, capture.nodes);
    return graph;
  }

  nodeCount(graph: GraphHandle): number {
    return found(this.#graphs.get(graph), "cuGraphGetNodes").length;
  }

  destroyGraph(graph: GraphHandle): void {
    found(this.#graphs.get(graph), "cuGraphDestroy");
    this.#graphs.delete(graph);
  }

  instantiate(graph: GraphHandle): GraphExecHandle {
    const exec = handle<GraphExecHandle>();
    this.#execs.set(exec, found(this.#graphs.get(graph), "cuGraphInstantiate"));
    return exec;
  }

  /** Graphs with as many nodes have the same topology here. */
  update(exec: GraphExecHandle, graph: GraphHandle): boolean {
    const nodes = found(this.#graphs.get(graph), "cuGraphExecUpdate");
    if (found(this.#execs.get(exec), "cuGraphExecUpdate").length !== nodes.length) return false;
    this.#execs.set(exec, nodes);
    return true;
  }

  launch(exec: GraphExecHandle, on: StreamHandle): void {
    for (const node of found(this.#execs.get(exec), "cuGraphLaunch")) this.submit(on, node, "cuGraphLaunch");
  }

  destroyExec(exec: GraphExecHandle): void {
    found(this.#execs.get(exec), "cuGraphExecDestroy");
    this.#execs.delete(exec);
  }

  /** Events go with their context, as the driver's do. */
  dropContext(context: bigint): void {
    for (const [event, { context: own }] of this.#events) if (own === context) this.#events.delete(event);
  }

  /** For calls that wait for the device: they end every capture under way. */
  refuseDuringCapture(symbol: string): void {
    for (const stream of this.#streams.values()) if (stream.capture) this.#refuse(symbol, stream.capture);
  }

  #refuse(symbol: string, capture: Capture): never {
    capture.invalid = true;
    throw error(symbol, 900, "STREAM_CAPTURE_UNSUPPORTED");
  }

  #pump(): void {
    for (let progress = true; progress; ) {
      progress = false;
      for (const stream of this.#streams.values()) {
        while (!stream.held && stream.queue.length > 0 && !this.#blocked(stream)) {
          this.#runNext(stream);
          progress = true;
        }
      }
    }
  }

  #blocked(stream: FakeStream): boolean {
    const next = stream.queue[0];
    return next !== undefined && "waitFor" in next && !next.waitFor.done;
  }

  #runNext(stream: FakeStream): void {
    const task = stream.queue.shift()!;
    this.#clockMs++;
    if ("waitFor" in task) this.#reach(task.waitFor);
    else task.run();
  }

  #reach(mark: Mark): void {
    while (!mark.done) this.#runNext(mark.stream);
  }

  #drain(stream: FakeStream): void {
    while (stream.queue.length > 0) this.#runNext(stream);
  }

  #stream(of: StreamHandle, symbol: string): FakeStream {
    return found(this.#streams.get(of), symbol);
  }

  #event(of: EventHandle, symbol: string): FakeEvent {
    return found(this.#events.get(of), symbol);
  }
}

export function found<T>(value: T | undefined, symbol: string): T {
  if (value === undefined) throw error(symbol, 400, "INVALID_HANDLE");
  return value;
}

function error(symbol: string, status: number, name: string): CudaError {
  return new CudaError(symbol, status, `CUDA_ERROR_${name}`, `${symbol}: CUDA_ERROR_${name}`);
}
