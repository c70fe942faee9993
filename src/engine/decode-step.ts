import { ptrAdd } from "../driver/api.ts";
import type { ExecutableGraph } from "../driver/graph.ts";
import type { MemoryPool } from "../driver/memory.ts";
import { advance } from "../kernels/sampling/advance.ts";
import { penalizeRepetition } from "../kernels/sampling/repetition.ts";
import { sample, samplingWorkspaceBytes } from "../kernels/sampling/sampling.ts";
import type { ForwardContext } from "../nn/forward-context.ts";
import { blockSize, type KvCache } from "../nn/kv-cache.ts";
import { Tensor } from "../tensor/tensor.ts";
import { tidy } from "../tensor/tidy.ts";
import { type DecodeBatch, ringSteps } from "./decode-batch.ts";
import type { AdaptedNetwork } from "./prefill.ts";

/**
 * Draws one token for every row from `hidden` [B, C] and moves the batch on: the tokens go to the ring and become the
 * next step's input, positions and lengths grow by one, the next slots are looked up. All on the device.
 */
export function sampleAndAdvance({ network, adapters }: AdaptedNetwork, batch: DecodeBatch, hidden: Tensor): void {
  tidy(() => {
    const { device, vocabSize } = network;
    const { rows } = batch;
    const logits = adapters.run(batch.adapterRows, () => network.logits(hidden));
    if (batch.penalizes) {
      penalizeRepetition(device.stream, {
        logits: logits.ptr,
        seen: batch.seen.ptr,
        tokens: batch.tokenIds.ptr,
        steps: batch.draws.ptr,
        penalties: batch.repetitionPenalty.ptr,
        rows,
        vocab: vocabSize,
        dtype: logits.dtype,
      });
    }
    const workspace = Tensor.empty([samplingWorkspaceBytes(rows, vocabSize)], { dtype: "uint8", device });
    const tokens = Tensor.empty([rows], { dtype: "int32", device });
    sample(device.stream, {
      tokens: tokens.ptr,
      logits: logits.ptr,
      rows,
      vocab: vocabSize,
      dtype: logits.dtype,
      temperature: batch.temperature.ptr,
      topK: batch.topK.ptr,
      topP: batch.topP.ptr,
      minP: batch.minP.ptr,
      seeds: batch.seeds.ptr,
      steps: batch.draws.ptr,
      workspace: workspace.ptr,
      greedyOnly: batch.greedyOnly,
    });
    advance(device.stream, {
      sampled: tokens.ptr,
      tokenIds: batch.tokenIds.ptr,
      positions: batch.positions.ptr,
      contextLengths: batch.contextLengths.ptr,
      slots: batch.slots.ptr,
      steps: batch.draws.ptr,
      blockTable: batch.blockTable.ptr,
      maxBlocks: batch.maxBlocks,
      groups: batch.groups,
      blockSize,
      ring: batch.ring.devicePtr,
      ringLength: ringSteps,
      step: batch.step.ptr,
      published: ptrAdd(batch.ring.devicePtr, ringSteps * rows * 4),
      rows,
    });
  });
}

/** One decode step: every row's token through the network, then `sampleAndAdvance`. */
function decodeStep(adapted: AdaptedNetwork, cache: KvCache, batch: DecodeBatch, maxContext: number): void {
  const { network, adapters } = adapted;
  tidy(() => {
    const context: ForwardContext = {
      stream: network.device.stream,
      cache,
      tokens: batch.rows,
      sequences: batch.rows,
      positions: batch.positions,
      queryStarts: batch.queryStarts,
      contextLengths: batch.contextLengths,
      pages: batch.pages,
      maxQuery: 1,
      maxContext,
    };
    const hidden = adapters.run(batch.adapterRows, () => network.forward(batch.tokenIds, context));
    sampleAndAdvance(adapted, batch, hidden);
  });
}

/**
 * Decode steps of one batch as CUDA graphs: one per power of two of context, since the context bounds the grid of
 * attention, with less sampling when every row is greedy, more when one has a repetition penalty, and what adapters add when a
 * row has one. The first step of a kind runs as it is, which also loads what it needs; the second is captured.
 */
export class DecodeSteps implements Disposable {
  readonly #adapted: AdaptedNetwork;
  readonly #cache: () => KvCache;
  readonly #batch: DecodeBatch;
  #memory: MemoryPool;
  readonly #graphs = new Map<string, ExecutableGraph | "warm">();
  /** Of the adapters, when the graphs were captured. */
  #version: number;

  constructor(adapted: AdaptedNetwork, cache: () => KvCache, batch: DecodeBatch) {
    this.#adapted = adapted;
    this.#version = adapted.adapters.version;
    this.#cache = cache;
    this.#batch = batch;
    this.#memory = adapted.network.device.createMemoryPool("decode graphs");
  }

  /** Submits one step for rows that see at most `context` tokens. Does not wait. */
  submit(context: number): void {
    const { device } = this.#adapted.network;
    const bound = contextBound(context);
    const { greedyOnly, penalizes, adapterRows } = this.#batch;
    if (adapterRows) this.#renew();
    const adapted = adapterRows ? ` adapted ${adapterRows.whole?.id ?? ""}` : "";
    const key = `${bound}${greedyOnly ? " greedy" : ""}${penalizes ? " penalized" : ""}${adapted}`;
    const known = this.#graphs.get(key);
    if (known === undefined) {
      decodeStep(this.#adapted, this.#cache(), this.#batch, bound);
      this.#graphs.set(key, "warm");
      return;
    }
    if (known !== "warm") {
      known.launch(device.stream);
      return;
    }
    const graph = device.useMemory(this.#memory, () =>
      device.stream.capture(() => decodeStep(this.#adapted, this.#cache(), this.#batch, bound)),
    );
    const executable = graph.instantiate();
    graph.dispose();
    this.#graphs.set(key, executable);
    executable.launch(device.stream);
  }

  /** Forgets graphs that loading or unloading an adapter has made wrong; they may be running. */
  #renew(): void {
    const { adapters, network } = this.#adapted;
    if (this.#version === adapters.version) return;
    network.device.stream.synchronize();
    this.clear();
    this.#version = adapters.version;
  }

  /** Forgets all graphs, because an address that they hold has changed. Nothing of them may be running. */
  clear(): void {
    this.dispose();
    this.#memory = this.#adapted.network.device.createMemoryPool("decode graphs");
  }

  dispose(): void {
    for (const graph of this.#graphs.values()) if (graph !== "warm") graph.dispose();
    this.#graphs.clear();
    this.#memory.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** The next power of two, from 256 on: a graph's grid covers contexts up to it. */
export function contextBound(context: number): number {
  let bound = 256;
  while (bound < context) bound *= 2;
  return bound;
}
