import { expect, test } from "vitest";
import { StateError } from "../../src/base/errors.ts";
import type { Stream } from "../../src/driver/stream.ts";
import { waitForStep } from "../../src/engine/host-poll.ts";

const stream = (idle: boolean) => ({ idle }) as Stream;

test("other work of the event loop runs also when the device is ahead", async () => {
  let ran = 0;
  const timer = setInterval(() => ran++, 0);
  for (let step = 1; step <= 50; step++) {
    await waitForStep(Int32Array.of(100), step, stream(true));
    const until = performance.now() + 1;
    while (performance.now() < until);
  }
  clearInterval(timer);
  expect(ran).toBeGreaterThan(5);
});

test("resolves when the counter arrives", async () => {
  const counter = Int32Array.of(0);
  setTimeout(() => Atomics.store(counter, 0, 3), 20);
  await waitForStep(counter, 3, stream(false));
  expect(counter[0]).toBe(3);
});

test("a device that stopped before the step is an error, not a wait", async () => {
  await expect(waitForStep(Int32Array.of(1), 2, stream(true))).rejects.toThrow(StateError);
});
