import type { Device } from "../driver/device.ts";

/**
 * Blocks of a grid-stride kernel for `work` threads' worth of items: enough to cover them, and no more than fill every
 * multiprocessor eight times over, so that huge sizes stay within grid limits and the tail is short.
 */
export function gridStrideBlocks(device: Device, work: number, blockThreads: number): number {
  const needed = Math.ceil(work / blockThreads);
  const resident = Math.floor(device.attributes.maxThreadsPerMultiprocessor / blockThreads);
  return Math.max(1, Math.min(needed, device.attributes.multiprocessors * resident * 8));
}
