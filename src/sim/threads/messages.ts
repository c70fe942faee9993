import type { CompiledKernel } from "../compile/kernel.ts";
import type { WasmMemory } from "../wasm/host.ts";

/** What a thread of a team begins with. */
export interface ThreadStart {
  readonly executor: number;
  readonly control: SharedArrayBuffer;
  readonly memory: WasmMemory;
  readonly deviceBase: bigint;
}

/** From the owner to a thread. */
export type OwnerMessage =
  | { readonly kind: "kernel"; readonly id: number; readonly kernel: CompiledKernel }
  | { readonly kind: "answer"; readonly value: number | string | undefined };

/** From a thread to the owner: what only the owner knows, and how a block failed. */
export type ThreadMessage =
  | { readonly kind: "foreign"; readonly address: bigint; readonly bytes: number }
  | { readonly kind: "describe"; readonly address: bigint }
  | { readonly kind: "failure"; readonly block: number; readonly failure: Failure };

/** An error as data: its class does not survive a message. */
export interface Failure {
  readonly message: string;
  /** Of a CudaError. */
  readonly cuda: { readonly api: string; readonly status: number; readonly name: string } | undefined;
}
