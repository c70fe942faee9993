import type { DeviceAttributes } from "../../driver/api.ts";

const KiB = 1024;

/** What GPUs of each architecture allow. Source: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability". */
const limits: Readonly<Record<string, { sharedOptin: number; sharedPerMultiprocessor: number; threads: number }>> = {
  sm_60: { sharedOptin: 48 * KiB, sharedPerMultiprocessor: 64 * KiB, threads: 2048 },
  sm_70: { sharedOptin: 96 * KiB, sharedPerMultiprocessor: 96 * KiB, threads: 2048 },
  sm_75: { sharedOptin: 64 * KiB, sharedPerMultiprocessor: 64 * KiB, threads: 1024 },
  sm_80: { sharedOptin: 163 * KiB, sharedPerMultiprocessor: 164 * KiB, threads: 2048 },
  sm_86: { sharedOptin: 99 * KiB, sharedPerMultiprocessor: 100 * KiB, threads: 1536 },
  sm_89: { sharedOptin: 99 * KiB, sharedPerMultiprocessor: 100 * KiB, threads: 1536 },
};

/** Architectures that can be simulated. */
export const simTargets: readonly string[] = Object.keys(limits);

/** Devices of each architecture: for peer copies. Device `i` has architecture `i` modulo their number. */
export const devicesPerTarget = 4;

export const defaultSimTarget = "sm_80";

/** Few multiprocessors, so that kernels which spread work over all of them do not make blocks for nothing. */
const multiprocessors = 4;

export function simAttributes(ordinal: number, totalMemory: number): DeviceAttributes {
  const target = simTargets[ordinal % simTargets.length]!;
  const { sharedOptin, sharedPerMultiprocessor, threads } = limits[target]!;
  return {
    name: `Software device ${target}`,
    uuid: `GPU-00000000-0000-0000-0000-${String(ordinal).padStart(12, "0")}`,
    totalMemory,
    capability: Number(target.slice(3)),
    multiprocessors,
    warpSize: 32,
    maxThreadsPerBlock: 1024,
    maxThreadsPerMultiprocessor: threads,
    maxGridY: 65535,
    sharedPerBlock: 48 * KiB,
    sharedPerBlockOptin: sharedOptin,
    sharedPerMultiprocessor,
    registersPerBlock: 65536,
    l2Bytes: 1024 * KiB,
    clockKhz: 1_000_000,
    memoryClockKhz: 1_000_000,
    memoryBusBits: 64,
    integrated: false,
    unifiedAddressing: true,
    synchronous: true,
    pciBus: `0000:00:${ordinal.toString(16).padStart(2, "0")}.0`,
  };
}
