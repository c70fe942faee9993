import type { FfiEngine } from "../../ffi/engine.ts";
import type { FunctionHandle, StreamHandle } from "../../ffi/handles.ts";
import type { LaunchShape } from "../api.ts";
import type { ArgumentBlock } from "./host-memory.ts";
import type { CudaDriver } from "./load.ts";

/** CUlaunchConfig (56 bytes) and two CUlaunchAttribute (72 bytes each) behind it; offsets from cuda.h. */
const config = {
  grid: 0,
  block: 12,
  sharedBytes: 24,
  stream: 32,
  attributes: 40,
  attributeCount: 48,
  bytes: 56,
} as const;
const attribute = { id: 0, value: 8, bytes: 72 } as const;
const CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION = 4;
const CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION = 6;

/** Launches kernels, plainly, in clusters or with programmatic stream serialization, without allocating. */
export class Launcher {
  readonly #cu: CudaDriver;
  readonly #canConfigure: boolean;
  readonly #config: DataView;
  readonly #configAddress: bigint;

  constructor(cu: CudaDriver, engine: FfiEngine) {
    this.#cu = cu;
    this.#canConfigure = cu.has("launchKernelEx");
    const { address, buffer } = engine.alloc(config.bytes + 2 * attribute.bytes);
    this.#configAddress = address;
    this.#config = new DataView(buffer);
    this.#config.setBigUint64(config.attributes, address + BigInt(config.bytes), true);
  }

  launch(
    fn: FunctionHandle,
    shape: LaunchShape,
    stream: StreamHandle,
    args: ArgumentBlock,
    bytes: number,
    overlap: boolean,
  ): void {
    args.setArgumentBytes(bytes);
    const { parameters } = args;
    const extra = parameters === 0n ? args.extra : 0n;
    const { grid, block, sharedBytes, cluster = 1 } = shape;
    if (cluster === 1 && (!overlap || !this.#canConfigure)) {
      this.#cu.calls.launchKernel(
        fn,
        grid[0],
        grid[1],
        grid[2],
        block[0],
        block[1],
        block[2],
        sharedBytes,
        stream,
        parameters,
        extra,
      );
      return;
    }
    const c = this.#config;
    for (let i = 0; i < 3; i++) {
      c.setUint32(config.grid + 4 * i, grid[i]!, true);
      c.setUint32(config.block + 4 * i, block[i]!, true);
    }
    c.setUint32(config.sharedBytes, sharedBytes, true);
    c.setBigUint64(config.stream, stream, true);
    let count = 0;
    if (overlap) this.#attribute(count++, CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION, 1, 0);
    if (cluster > 1) this.#attribute(count++, CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, cluster, 1);
    c.setUint32(config.attributeCount, count, true);
    this.#cu.calls.launchKernelEx(this.#configAddress, fn, parameters, extra);
  }

  /** Attributes here are a number, or three of which the second and third are the same. */
  #attribute(index: number, id: number, first: number, others: number): void {
    const at = config.bytes + index * attribute.bytes;
    this.#config.setUint32(at + attribute.id, id, true);
    this.#config.setUint32(at + attribute.value, first, true);
    this.#config.setUint32(at + attribute.value + 4, others, true);
    this.#config.setUint32(at + attribute.value + 8, others, true);
  }
}
