/** The public API. */
export { type DType, type DTypeLike, type DTypeName, dtype, promote } from "./base/dtype.ts";
export * from "./base/errors.ts";
export type { Shape } from "./base/shape.ts";
export { Device } from "./driver/device.ts";
export { Event } from "./driver/event.ts";
export { ExecutableGraph, Graph } from "./driver/graph.ts";
export type { DeviceBuffer, MemoryPool, MemoryStatistics } from "./driver/memory.ts";
export { KernelFunction, Module as PtxModule } from "./driver/module.ts";
export { type DeviceListing, listDevices, openDevice } from "./driver/open.ts";
export { PinnedBuffer } from "./driver/pinned.ts";
export { Stream } from "./driver/stream.ts";
export type { TensorOptions } from "./tensor/create.ts";
export { type HostInput, HostTensor } from "./tensor/host-tensor.ts";
export type { Nested } from "./tensor/nested.ts";
export { Tensor } from "./tensor/tensor.ts";
export { keep, tidy } from "./tensor/tidy.ts";
