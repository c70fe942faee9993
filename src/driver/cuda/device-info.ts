import type { FfiEngine } from "../../ffi/engine.ts";
import type { DeviceAttributes } from "../api.ts";
import type { CudaDriver } from "./load.ts";

/** CUdevice_attribute values, from cuda.h. */
const attributes = {
  maxThreadsPerBlock: 1,
  maxGridY: 6,
  sharedPerBlock: 8,
  warpSize: 10,
  registersPerBlock: 12,
  clockKhz: 13,
  multiprocessors: 16,
  integrated: 18,
  memoryClockKhz: 36,
  memoryBusBits: 37,
  l2Bytes: 38,
  maxThreadsPerMultiprocessor: 39,
  unifiedAddressing: 41,
  capabilityMajor: 75,
  capabilityMinor: 76,
  sharedPerMultiprocessor: 81,
  sharedPerBlockOptin: 97,
} as const;

/** Asks the driver for everything that llcuda wants to know about a device. */
export function readDeviceAttributes(cu: CudaDriver, engine: FfiEngine, ordinal: number): DeviceAttributes {
  const { calls } = cu;
  const get = (id: number): number => calls.deviceGetAttribute(id, ordinal);
  const text = engine.alloc(256);
  calls.deviceGetName(text.address, 256, ordinal);
  const name = engine.readString(text.address);
  calls.deviceGetPciBusId(text.address, 256, ordinal);
  const pciBus = engine.readString(text.address);
  calls.deviceGetUuid(text.address, ordinal);
  const uuid = formatUuid(new Uint8Array(text.buffer, 0, 16));
  return {
    name,
    uuid,
    pciBus,
    totalMemory: calls.deviceTotalMem(ordinal),
    capability: get(attributes.capabilityMajor) * 10 + get(attributes.capabilityMinor),
    multiprocessors: get(attributes.multiprocessors),
    warpSize: get(attributes.warpSize),
    maxThreadsPerBlock: get(attributes.maxThreadsPerBlock),
    maxThreadsPerMultiprocessor: get(attributes.maxThreadsPerMultiprocessor),
    maxGridY: get(attributes.maxGridY),
    sharedPerBlock: get(attributes.sharedPerBlock),
    sharedPerBlockOptin: get(attributes.sharedPerBlockOptin),
    sharedPerMultiprocessor: get(attributes.sharedPerMultiprocessor),
    registersPerBlock: get(attributes.registersPerBlock),
    l2Bytes: get(attributes.l2Bytes),
    clockKhz: get(attributes.clockKhz),
    memoryClockKhz: get(attributes.memoryClockKhz),
    memoryBusBits: get(attributes.memoryBusBits),
    integrated: get(attributes.integrated) !== 0,
    unifiedAddressing: get(attributes.unifiedAddressing) !== 0,
    synchronous: false,
  };
}

function formatUuid(bytes: Uint8Array): string {
  const hex = Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
  return `GPU-${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
