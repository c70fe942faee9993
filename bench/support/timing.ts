import type { Device } from "../../src/driver/device.ts";

export interface Timing {
  /** Median time of one call of `submit`, in microseconds. */
  readonly medianUs: number;
  /** The fastest and the slowest replay, per call. */
  readonly minUs: number;
  readonly maxUs: number;
}

export interface TimingOptions {
  /** Timed replays; the median is taken over them. Default 15. */
  readonly repeats?: number;
  /** How long one replay should run, in microseconds, so that its start weighs nothing. Default 3,000. */
  readonly replayUs?: number;
}

/**
 * Times what `submit(i)` launches on the device's main stream, i = 0 .. sets - 1 in turn: each i should use memory of its
 * own, enough of it that data come from memory and not from L2 (`setsBeyondL2`). The calls are captured into one CUDA
 * graph, so that neither the host nor launch gaps count; events around each replay measure the device's own clock.
 */
export function timeRotating(
  device: Device,
  sets: number,
  submit: (set: number) => void,
  options: TimingOptions = {},
): Timing {
  const { repeats = 15, replayUs = 3_000 } = options;
  const stream = device.stream;
  // Loads modules and sets attributes, which capture would not allow; then one round estimates the length of a replay.
  submit(0);
  stream.synchronize();
  const round = replayTimes(device, sets, submit, 2)[1]!;
  const calls = Math.min(2_000, Math.max(sets, Math.ceil((replayUs / Math.max(round, 1e-3)) * sets)));
  const warmUp = 3;
  const times = replayTimes(device, calls, (i) => submit(i % sets), warmUp + repeats).slice(warmUp);
  const sorted = times.map((us) => us / calls).sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const medianUs = sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return { medianUs, minUs: sorted[0]!, maxUs: sorted.at(-1)! };
}

/** Microseconds of each of `replays` runs of a graph of `calls` calls. */
function replayTimes(device: Device, calls: number, submit: (i: number) => void, replays: number): number[] {
  const stream = device.stream;
  // For what calls allocate, one after the other in the same place.
  using pool = device.createMemoryPool("bench");
  using graph = device.useMemory(pool, () =>
    stream.capture(() => {
      for (let i = 0; i < calls; i++) submit(i);
    }),
  );
  using executable = graph.instantiate();
  const marks = Array.from({ length: replays + 1 }, () => device.createEvent({ timing: true }));
  stream.record(marks[0]!);
  for (let i = 0; i < replays; i++) {
    executable.launch(stream);
    stream.record(marks[i + 1]!);
  }
  stream.synchronize();
  const times = marks.slice(1).map((mark, i) => mark.elapsedMs(marks[i]!) * 1000);
  for (const mark of marks) mark.dispose();
  return times;
}

/** How many sets of `bytesPerSet` to rotate through so that a set has left L2 before its turn comes again. */
export function setsBeyondL2(device: Device, bytesPerSet: number): number {
  return Math.min(512, Math.max(2, Math.ceil((3 * device.attributes.l2Bytes) / bytesPerSet) + 1));
}
