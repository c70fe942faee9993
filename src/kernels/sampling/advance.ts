import type { DevicePtr } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";
import { launch } from "../library.ts";
import { defineKernel } from "../spec.ts";

export const advanceKernel = defineKernel({
  family: "advance",
  source: "sampling/advance.cu",
  args: {
    sampled: "ptr",
    tokenIds: "ptr",
    positions: "ptr",
    contextLengths: "ptr",
    slots: "ptr",
    steps: "ptr",
    blockTable: "ptr",
    ring: "ptr",
    step: "ptr",
    published: "ptr",
    rows: "i32",
    maxBlocks: "i32",
    groups: "i32",
    blockSize: "i32",
    ringLength: "i32",
    ringStride: "i32",
  },
  axes: {},
  targets: ["sm_60", "sm_90"],
});

/** What the ring holds for a row that was inactive in a step. */
export const noToken = -2;

export interface AdvanceArgs {
  /** i32 [B]: what `sample` gave. */
  readonly sampled: DevicePtr;
  /** i32 [B], written: the next step's input. A failed token (-1) goes on as -1, whose embedding is NaN: the row goes on failing. */
  readonly tokenIds: DevicePtr;
  /** i32 [B], incremented: the position of the token in `tokenIds`. */
  readonly positions: DevicePtr;
  /** i32 [B], incremented: tokens visible to the next step, its own included. 0 marks an inactive row. */
  readonly contextLengths: DevicePtr;
  /** i32 [groups, B], written: where the next step stores keys and values; -1 for inactive rows. */
  readonly slots: DevicePtr;
  /** u32 [B], incremented: each row's count of drawn tokens, as `sample` reads it. */
  readonly steps: DevicePtr;
  /** i32 [groups, B, maxBlocks]: cache block of each `blockSize` positions; a negative entry has no block. */
  readonly blockTable: DevicePtr;
  readonly maxBlocks: number;
  /** Groups of layers with a block table of their own; default 1. */
  readonly groups?: number;
  /** Tokens in a cache block; default 16. */
  readonly blockSize?: number;
  /** i32 [ringLength, ringStride] in mapped pinned host memory (`PinnedBuffer.devicePtr`). */
  readonly ring: DevicePtr;
  readonly ringLength: number;
  /** At least `rows`; default `rows`. */
  readonly ringStride?: number;
  /** u32 [1] in device memory: steps finished so far, incremented. */
  readonly step: DevicePtr;
  /** u32 [1] in mapped pinned host memory: `step`, stored after the ring's row is visible to the host. */
  readonly published: DevicePtr;
  readonly rows: number;
}

/**
 * Ends a decode step: everything that the next replay of its graph reads moves on by one token.
 *
 * Active rows (contextLengths > 0): tokenIds = sampled, positions, contextLengths and steps + 1, slots from the block
 * tables. A row whose new position has no block in some group (a negative entry, or past maxBlocks) becomes inactive:
 * contextLengths 0, slots -1, its token still delivered. Inactive rows keep everything, and their slots are set to -1.
 *
 * ring[step % ringLength, b] = sampled[b] (-1: sampling failed), or `noToken` for rows inactive in this step; then, after
 * a system-wide fence, step + 1 is stored to `step` and `published`. The host polls `published`: when it is n, the rows
 * of the steps below n are complete, and the last `ringLength` of them are still there. The host must therefore have
 * read step s before step s + ringLength is launched. The counters wrap at 2^32.
 */
export function advance(stream: Stream, p: AdvanceArgs): void {
  if (p.rows === 0) return;
  launch(
    stream,
    advanceKernel,
    {},
    // One block: the step is published once, after all of its rows.
    { grid: [1], block: Math.min(256, Math.ceil(p.rows / 32) * 32) },
    {
      sampled: p.sampled,
      tokenIds: p.tokenIds,
      positions: p.positions,
      contextLengths: p.contextLengths,
      slots: p.slots,
      steps: p.steps,
      blockTable: p.blockTable,
      ring: p.ring,
      step: p.step,
      published: p.published,
      rows: p.rows,
      maxBlocks: p.maxBlocks,
      groups: p.groups ?? 1,
      blockSize: p.blockSize ?? 16,
      ringLength: p.ringLength,
      ringStride: p.ringStride ?? p.rows,
    },
    { overlap: true },
  );
}
