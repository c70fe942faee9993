import { fn, raw } from "./table.ts";
import { cstring, f32, handle, i32, out, pointer, u32, usize } from "./types.ts";

/**
 * The CUDA driver API, as far as llcuda calls it: libcuda.so.1 or nvcuda.dll, from CUDA 11.0 on. Symbols carry their
 * version, as the driver exports them; what came after 11.0 has a fallback in src/driver/cuda.
 * Source: cuda.h of CUDA 13.0, and the driver API reference for the versions.
 */

const devicePtr = handle<"CUdeviceptr">();
const context = handle<"CUcontext">();
const stream = handle<"CUstream">();
const event = handle<"CUevent">();
const module = handle<"CUmodule">();
const func = handle<"CUfunction">();
const graph = handle<"CUgraph">();
const graphExec = handle<"CUgraphExec">();
/** CUdevice is an ordinal, and enumerations are ints. */
const device = i32;
const flags = u32;
const status = i32;

export const cudaDriver = {
  init: raw(status, "cuInit", "2.0", flags),
  driverGetVersion: fn("cuDriverGetVersion", "2.2", out(i32)),

  deviceGetCount: fn("cuDeviceGetCount", "2.0", out(i32)),
  deviceGetName: fn("cuDeviceGetName", "2.0", pointer, i32, device),
  deviceGetUuid: fn("cuDeviceGetUuid", "9.2", pointer, device),
  deviceTotalMem: fn("cuDeviceTotalMem_v2", "3.2", out(usize), device),
  deviceGetAttribute: fn("cuDeviceGetAttribute", "2.0", out(i32), i32, device),
  deviceGetPciBusId: fn("cuDeviceGetPCIBusId", "4.1", pointer, i32, device),
  deviceCanAccessPeer: fn("cuDeviceCanAccessPeer", "4.0", out(i32), device, device),

  primaryContextRetain: fn("cuDevicePrimaryCtxRetain", "7.0", out(context), device),
  primaryContextRelease: fn("cuDevicePrimaryCtxRelease_v2", "11.0", device),
  contextSetCurrent: fn("cuCtxSetCurrent", "4.0", context),
  contextSynchronize: fn("cuCtxSynchronize", "2.0"),
  contextEnablePeerAccess: raw(status, "cuCtxEnablePeerAccess", "4.0", context, flags),

  memGetInfo: fn("cuMemGetInfo_v2", "3.2", out(usize), out(usize)),
  memAlloc: fn("cuMemAlloc_v2", "3.2", out(devicePtr), usize),
  memFree: fn("cuMemFree_v2", "3.2", devicePtr),
  memHostAlloc: fn("cuMemHostAlloc", "2.2", out(pointer), usize, flags),
  memHostGetDevicePointer: fn("cuMemHostGetDevicePointer_v2", "3.2", out(devicePtr), pointer, flags),
  memFreeHost: fn("cuMemFreeHost", "2.0", pointer),
  memcpyHostToDevice: fn("cuMemcpyHtoDAsync_v2", "3.2", devicePtr, pointer, usize, stream),
  memcpyDeviceToHost: fn("cuMemcpyDtoHAsync_v2", "3.2", pointer, devicePtr, usize, stream),
  memcpyDeviceToDevice: fn("cuMemcpyDtoDAsync_v2", "3.2", devicePtr, devicePtr, usize, stream),
  memcpyPeer: fn("cuMemcpyPeerAsync", "4.0", devicePtr, context, devicePtr, context, usize, stream),
  memset8: fn("cuMemsetD8Async", "3.2", devicePtr, u32, usize, stream),
  memset32: fn("cuMemsetD32Async", "3.2", devicePtr, u32, usize, stream),

  streamCreate: fn("cuStreamCreateWithPriority", "5.5", out(stream), flags, i32),
  streamDestroy: fn("cuStreamDestroy_v2", "4.0", stream),
  streamSynchronize: fn("cuStreamSynchronize", "2.0", stream),
  streamQuery: raw(status, "cuStreamQuery", "2.0", stream),
  streamWaitEvent: fn("cuStreamWaitEvent", "3.2", stream, event, flags),

  eventCreate: fn("cuEventCreate", "2.0", out(event), flags),
  eventDestroy: fn("cuEventDestroy_v2", "4.0", event),
  eventRecord: fn("cuEventRecord", "2.0", event, stream),
  eventSynchronize: fn("cuEventSynchronize", "2.0", event),
  eventQuery: raw(status, "cuEventQuery", "2.0", event),
  eventElapsedTime: fn("cuEventElapsedTime", "2.0", out(f32), event, event),

  /** image, option count, options, option values */
  moduleLoadData: fn("cuModuleLoadDataEx", "2.1", out(module), pointer, u32, pointer, pointer),
  moduleUnload: fn("cuModuleUnload", "2.0", module),
  moduleGetFunction: fn("cuModuleGetFunction", "2.0", out(func), module, cstring),
  funcGetAttribute: fn("cuFuncGetAttribute", "2.2", out(i32), i32, func),
  funcSetAttribute: fn("cuFuncSetAttribute", "9.0", func, i32, i32),
  occupancyMaxActiveBlocks: fn("cuOccupancyMaxActiveBlocksPerMultiprocessor", "6.5", out(i32), func, i32, usize),

  /** function, grid x y z, block x y z, dynamic shared bytes, stream, parameters, extra */
  launchKernel: fn("cuLaunchKernel", "4.0", func, u32, u32, u32, u32, u32, u32, u32, stream, pointer, pointer),
  /** configuration, function, parameters, extra */
  launchKernelEx: fn("cuLaunchKernelEx", "11.8", pointer, func, pointer, pointer),
  /** map, element type, rank, address, sizes, strides, box, element strides, interleave, swizzle, promotion, fill */
  tensorMapEncodeTiled: fn(
    "cuTensorMapEncodeTiled",
    "12.0",
    pointer,
    i32,
    u32,
    devicePtr,
    pointer,
    pointer,
    pointer,
    pointer,
    i32,
    i32,
    i32,
    i32,
  ),

  streamBeginCapture: fn("cuStreamBeginCapture_v2", "10.1", stream, i32),
  streamEndCapture: fn("cuStreamEndCapture", "10.0", stream, out(graph)),
  graphDestroy: fn("cuGraphDestroy", "10.0", graph),
  /** The nodes are an optional array: null asks for their number only. */
  graphGetNodes: fn("cuGraphGetNodes", "10.0", graph, pointer, pointer),
  graphInstantiate: fn("cuGraphInstantiateWithFlags", "11.4", out(graphExec), graph, usize),
  /** executable graph, graph, error node, log, log size */
  graphInstantiateOld: fn("cuGraphInstantiate_v2", "11.0", out(graphExec), graph, pointer, pointer, usize),
  /** executable graph, graph, result information */
  graphExecUpdate: raw(status, "cuGraphExecUpdate_v2", "12.0", graphExec, graph, pointer),
  /** executable graph, graph, error node, result */
  graphExecUpdateOld: raw(status, "cuGraphExecUpdate", "10.2", graphExec, graph, pointer, pointer),
  graphLaunch: fn("cuGraphLaunch", "10.0", graphExec, stream),
  graphExecDestroy: fn("cuGraphExecDestroy", "10.0", graphExec),
} as const;
