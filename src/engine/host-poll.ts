import { setImmediate as nextTick, setTimeout as sleep } from "node:timers/promises";
import { StateError } from "../base/errors.ts";
import type { Stream } from "../driver/stream.ts";

/** A wait longer than this is expected to go on for a while; the thread then sleeps a millisecond at a time. */
const spinMs = 2;

/**
 * Waits until `counter[0]` (in pinned memory, stored by a kernel) has reached `step`, without blocking the event loop.
 * Asks the driver now and then whether the stream still runs, so that a kernel's fault is thrown instead of waited for.
 */
export async function waitForStep(counter: Int32Array, step: number, stream: Stream): Promise<void> {
  const begin = performance.now();
  // Once in any case: a device that is always ahead must not keep the host from its input, output and signals.
  await nextTick();
  for (let turn = 0; Atomics.load(counter, 0) < step; turn++) {
    if (turn % 64 === 63 && stream.idle && Atomics.load(counter, 0) < step) {
      throw new StateError(
        `decode: the device finished its work at step ${Atomics.load(counter, 0)}, before step ${step}`,
      );
    }
    if (performance.now() - begin < spinMs) await nextTick();
    else await sleep(1);
  }
}
