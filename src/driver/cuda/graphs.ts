import { CU } from "../../ffi/cuda-results.ts";
import type { FfiEngine, NativeBlock } from "../../ffi/engine.ts";
import type { GraphExecHandle, GraphHandle } from "../../ffi/handles.ts";
import type { CudaFaults } from "./errors.ts";
import type { CudaDriver } from "./load.ts";

/** The graph calls that changed between driver versions, or that have structures to read. */
export class GraphCalls {
  readonly #cu: CudaDriver;
  readonly #faults: CudaFaults;
  readonly #scratch: NativeBlock;

  constructor(cu: CudaDriver, engine: FfiEngine, faults: CudaFaults) {
    this.#cu = cu;
    this.#faults = faults;
    // CUgraphExecUpdateResultInfo is 24 bytes; the older form has two out parameters of at most 8.
    this.#scratch = engine.alloc(32);
  }

  nodeCount(graph: GraphHandle): number {
    this.#cu.calls.graphGetNodes(graph, 0n, this.#scratch.address);
    return new Uint32Array(this.#scratch.buffer)[0]!;
  }

  instantiate(graph: GraphHandle): GraphExecHandle {
    const { calls } = this.#cu;
    if (this.#cu.has("graphInstantiate")) return calls.graphInstantiate(graph, 0);
    return calls.graphInstantiateOld(graph, 0n, 0n, 0);
  }

  update(exec: GraphExecHandle, graph: GraphHandle): boolean {
    const { calls } = this.#cu;
    const { address } = this.#scratch;
    const modern = this.#cu.has("graphExecUpdate");
    const status = modern
      ? calls.graphExecUpdate(exec, graph, address)
      : calls.graphExecUpdateOld(exec, graph, address, address + 8n);
    if (status === CU.success) return true;
    if (status === CU.graphExecUpdateFailure) return false;
    return this.#faults.fail(modern ? "cuGraphExecUpdate_v2" : "cuGraphExecUpdate", status);
  }
}
