import type { LoadedAdapter } from "../nn/lora/adapter-set.ts";
import type { SamplingParameters } from "./sampling.ts";

/** One sequence to continue. */
export interface TokenRequest {
  readonly promptIds: readonly number[];
  readonly sampling: SamplingParameters;
  /** The adapter that the network has for this sequence; none when undefined. */
  readonly adapter?: LoadedAdapter | undefined;
  /** The most tokens to add; the context length bounds it too. */
  readonly maxNewTokens: number;
  /** Tokens that end the sequence; the one that does is reported with `finish: "stop"`. */
  readonly stopIds: ReadonlySet<number>;
  /** Ends this sequence alone, without an error: its last event has come when it is aborted. */
  readonly signal?: AbortSignal;
}

/** Why a sequence ended: a stop token or stop string, or the limit of tokens. */
export type FinishReason = "stop" | "length";

export interface TokenEvent {
  /** Index of the request. */
  readonly request: number;
  readonly tokenId: number;
  /** Set on the last event of a request. */
  readonly finish: FinishReason | undefined;
}
