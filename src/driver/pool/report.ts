import { OutOfMemoryError } from "../../base/errors.ts";
import type { MemoryStatistics } from "../memory.ts";
import type { Lease } from "./buffer.ts";

/** `1536` as `1.50 KiB`. */
export function formatBytes(bytes: number): string {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return unit === 0 ? `${bytes} bytes` : `${value.toFixed(2)} ${units[unit]}`;
}

/** The largest holders of live memory, by tag: `"weights" 8.00 GiB in 291 buffers`. */
export function largestHolders(leases: Iterable<Lease>, count = 5): string[] {
  const byTag = new Map<string, { bytes: number; buffers: number }>();
  for (const lease of leases) {
    const entry = byTag.get(lease.tag) ?? { bytes: 0, buffers: 0 };
    entry.bytes += lease.block?.bytes ?? 0;
    entry.buffers += 1;
    byTag.set(lease.tag, entry);
  }
  return [...byTag]
    .filter(([, entry]) => entry.bytes > 0)
    .sort((a, b) => b[1].bytes - a[1].bytes)
    .slice(0, count)
    .map(
      ([tag, { bytes, buffers }]) => `"${tag}" ${formatBytes(bytes)} in ${buffers} buffer${buffers === 1 ? "" : "s"}`,
    );
}

export function outOfMemory(facts: {
  device: string;
  pool: string;
  tag: string;
  wantedBytes: number;
  freeBytes: number;
  totalBytes: number;
  limitBytes: number | undefined;
  /** Of the pool that was asked. */
  statistics: MemoryStatistics;
  /** Bytes that all pools of the device hold. */
  reservedBytes: number;
  leases: Iterable<Lease>;
}): OutOfMemoryError {
  const { statistics, limitBytes, reservedBytes } = facts;
  const limited = limitBytes !== undefined && reservedBytes + facts.wantedBytes > limitBytes;
  const room = limited
    ? `all pools of the device hold ${formatBytes(reservedBytes)} of their limit of ${formatBytes(limitBytes)}`
    : `the device has ${formatBytes(facts.freeBytes)} free of ${formatBytes(facts.totalBytes)}`;
  const cached = statistics.reservedBytes - statistics.allocatedBytes;
  const holders = largestHolders(facts.leases);
  const held = holders.length > 0 ? `; the largest holders are ${holders.join(", ")}` : "";
  const remedy = limited ? "raise LLCUDA_MEMORY_LIMIT, or free" : "free";
  return new OutOfMemoryError(
    `${facts.device}: ${formatBytes(facts.wantedBytes)} for "${facts.tag}" do not fit: ${room}; ` +
      `pool "${facts.pool}" holds ${formatBytes(statistics.reservedBytes)}, of which ` +
      `${formatBytes(statistics.allocatedBytes)} in ${statistics.liveBuffers} live buffers and ${formatBytes(cached)} cached in pieces${held}; ` +
      `${remedy} tensors with dispose(), or use a smaller batch, context or dtype`,
    facts.wantedBytes,
    limited ? Math.max(0, limitBytes - reservedBytes) : facts.freeBytes,
  );
}
