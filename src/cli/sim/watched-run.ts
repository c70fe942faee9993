import { ArgumentError, type LlcudaError } from "../../base/errors.ts";
import type { Device } from "../../driver/device.ts";
import type { KernelProfile } from "../../sim/profile/kernel-profile.ts";
import { Profiler } from "../../sim/profile/profiler.ts";
import { type KernelTrace, type TraceOptions, Tracer } from "../../sim/trace/tracer.ts";
import { type PreparedRun, type RunResult, runKernel } from "./kernel-run.ts";

/** How a run is to be watched; at most one of these. */
export interface WatchFlags {
  readonly profile?: boolean;
  readonly trace?: readonly [number, number, number];
  readonly traceBlock?: readonly [number, number, number];
  readonly traceLimit?: number;
  readonly traceSkip?: number;
  readonly check?: boolean;
}

/** What a run gave: a result, or why it failed; and what was seen until then. */
export interface WatchedRun {
  readonly result: RunResult | undefined;
  readonly error: LlcudaError | undefined;
  readonly profile: KernelProfile | undefined;
  readonly trace: KernelTrace | undefined;
}

/** Throws ArgumentError for flags that do not go together, and for a thread that the launch does not have. */
export function traceOptions(flags: WatchFlags, { shape }: PreparedRun): TraceOptions | undefined {
  const given = (["check", "profile", "trace"] as const).filter((name) => flags[name]);
  if (given.length > 1) {
    throw new ArgumentError(`--${given[0]} and --${given[1]} watch a kernel in different ways; run it once with each`);
  }
  const { trace: thread, traceBlock: block = [0, 0, 0], traceLimit: limit = 200, traceSkip: skip = 0 } = flags;
  if (!thread) return undefined;
  const refuse = (option: string, place: readonly number[], what: string, sizes: readonly number[]): never => {
    throw new ArgumentError(
      `--${option} ${place.join(",")}: there is no such ${what}; the sizes are ${sizes.join("x")}`,
    );
  };
  if (thread.some((at, i) => at >= shape.block[i]!)) refuse("trace", thread, "thread", shape.block);
  if (block.some((at, i) => at >= shape.grid[i]!)) refuse("trace-block", block, "block", shape.grid);
  return { block, thread, limit, skip };
}

/** Runs a kernel; what it does wrong is part of what comes back. Other errors are thrown. */
export function runWatched(
  device: Device,
  prepared: PreparedRun,
  watch: { readonly profile: boolean; readonly trace: TraceOptions | undefined },
  isFault: (error: unknown) => error is LlcudaError,
): WatchedRun {
  using profiler = watch.profile ? new Profiler(device) : undefined;
  using tracer = watch.trace ? new Tracer(device, watch.trace) : undefined;
  let result: RunResult | undefined;
  let fault: LlcudaError | undefined;
  try {
    result = runKernel(device, prepared);
  } catch (error) {
    if (!isFault(error)) throw error;
    fault = error;
  }
  return { result, error: fault, profile: profiler?.kernels[0], trace: tracer?.kernels[0] };
}
