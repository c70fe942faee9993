import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  CudaError,
  DeviceError,
  LibraryError,
  ModuleError,
  OutOfMemoryError,
  UnsupportedError,
} from "../../src/base/errors.ts";
import type { DevicePtr, FunctionHandle, GraphExecHandle, GraphHandle, StreamHandle } from "../../src/driver/api.ts";
import type { CudaApi } from "../../src/driver/cuda/api.ts";
import { cudaResults } from "../../src/ffi/cuda-results.ts";
import type { FfiEngine } from "../../src/ffi/engine.ts";
import { ffiEngine } from "../../src/ffi/select.ts";
import { noCompiler } from "../support/native.ts";
import { FakeDriver } from "./fake-driver.ts";

const stream = 0xffff_ffff_0000_5000n as StreamHandle;
const fn = 0xf0f0n as FunctionHandle;
const ptr = 0x7f12_3456_7890n as DevicePtr;

/** What `body` throws; fails when it throws nothing. */
function thrown(body: () => unknown): Error {
  try {
    body();
  } catch (error) {
    return error as Error;
  }
  throw new Error("nothing was thrown");
}

function installed(name: string): FfiEngine | undefined {
  try {
    return ffiEngine(name);
  } catch {
    return undefined;
  }
}

for (const name of ["koffi", "ffi-rs"]) {
  const engine = installed(name) as FfiEngine;
  const missing = noCompiler ?? (engine ? undefined : "not installed");

  describe(`CudaApi through ${name}${missing === undefined ? "" : ` (skipped: ${missing})`}`, () => {
    const testHere = test.skipIf(missing !== undefined);
    let fake: FakeDriver;
    let old: FakeDriver;
    let api: CudaApi;

    beforeAll(() => {
      if (missing !== undefined) return;
      fake = new FakeDriver(engine);
      old = new FakeDriver(engine, { driver: 11000 });
      api = fake.api();
    });
    afterAll(() => {
      fake?.dispose();
      old?.dispose();
    });

    testHere("a driver that is too old: what it supports, what is needed, which driver has it", () => {
      fake.version(10020);
      const error = thrown(() => fake.api());
      fake.version(13000);
      expect(error instanceof DeviceError).toBe(true);
      expect(error.message).toBe(
        "cuda: the NVIDIA driver supports CUDA 10.2, llcuda needs 11.0 or newer; update the driver to 450.80.02 (Linux) or 452.39 (Windows) or newer",
      );
    });

    testHere("no GPU: the driver's own name for it, and what to check", () => {
      fake.devices(0);
      const error = thrown(() => fake.api());
      fake.devices(2);
      expect(error instanceof DeviceError).toBe(true);
      expect(error.message).toMatch(/found no usable GPU: cuInit returned CUDA_ERROR_NO_DEVICE \(100\).*nvidia-smi/);
    });

    testHere("an initialization that fails otherwise says how", () => {
      const error = thrown(() => fake.failing("cuInit", 803, () => fake.api()));
      expect(error.message).toMatch(/CUDA_ERROR_SYSTEM_DRIVER_MISMATCH \(803\)/);
    });

    testHere("every CUresult becomes an error with the call, the name and the number", () => {
      for (const [value, { name: resultName, text }] of Object.entries(cudaResults)) {
        const status = Number(value);
        if (status === 0) continue;
        // A fresh driver object each time: sticky statuses are remembered.
        const fresh = fake.api();
        const error = thrown(() => fake.failing("cuMemFree_v2", status, () => fresh.free(ptr))) as CudaError;
        expect(error instanceof CudaError).toBe(true);
        expect(error.message.startsWith(`cuMemFree_v2: ${resultName} (${status}): ${text}`)).toBe(true);
        expect([error.symbol, error.status, error.statusName]).toEqual(["cuMemFree_v2", status, resultName]);
      }
    });

    testHere("an error that breaks the context is named by all that follow it", () => {
      const fresh = fake.api();
      const first = thrown(() => fake.failing("cuCtxSynchronize", 700, () => fresh.synchronize()));
      expect(first.message).toMatch(/^cuCtxSynchronize: CUDA_ERROR_ILLEGAL_ADDRESS \(700\)/);
      expect(/earlier/.test(first.message)).toBe(false);
      const second = thrown(() => fake.failing("cuMemFree_v2", 719, () => fresh.free(ptr)));
      expect(second.message).toMatch(
        /^cuMemFree_v2: CUDA_ERROR_LAUNCH_FAILED .*; earlier, cuCtxSynchronize reported CUDA_ERROR_ILLEGAL_ADDRESS, which broke/,
      );
    });

    testHere(
      "a symbol that the driver lacks (the fake has no peer copies): its name, its version, the driver's version",
      () => {
        const context = api.retainContext(0);
        const error = thrown(() => api.copyPeer(ptr, context, ptr, context, 1, stream));
        expect(error instanceof LibraryError).toBe(true);
        expect(error.message).toMatch(
          /^cuMemcpyPeerAsync: not in .*libfake-13000\.so \(a driver for CUDA 13\.0\); it came with CUDA 4\.0/,
        );
      },
    );

    testHere("device attributes", () => {
      expect(api.driverVersion()).toBe(13000);
      expect(api.deviceCount()).toBe(2);
      const a = api.deviceAttributes(1);
      expect(a.name).toBe("Fake GPU 1");
      expect(a.uuid).toBe("GPU-01112131-4151-6171-8191-a1b1c1d1e1f1");
      expect(a.pciBus).toBe("0000:11:00.0");
      expect(a.totalMemory).toBe(141 * 2 ** 30);
      expect(a.capability).toBe(90);
      expect([a.warpSize, a.multiprocessors, a.sharedPerBlockOptin, a.l2Bytes]).toEqual([10, 16, 97, 38]);
      expect([a.integrated, a.unifiedAddressing]).toEqual([true, true]);
    });

    testHere("sizes and addresses cross unharmed", () => {
      expect(api.memoryInfo()).toEqual({ freeBytes: 5000000000, totalBytes: 141 * 2 ** 30 });
      expect(api.allocate(2 ** 36)).toBe((0x7f0000000000n + (1n << 36n)) as DevicePtr);
      expect(api.createStream(-3)).toBe(stream);
      expect([fake.number(6), BigInt.asIntN(64, fake.number(7))]).toEqual([1n, -3n]);
      api.fill8(ptr, 0x1ff, 2 ** 33, stream);
      expect([fake.number(2), fake.number(3), fake.number(4), fake.number(5)]).toEqual([ptr, 0xffn, 2n ** 33n, stream]);
      api.fill32(ptr, -1, 3, stream);
      expect(fake.number(3)).toBe(0xffffffffn);
    });

    testHere("out of memory: what was wanted and what is free", () => {
      const error = thrown(() => fake.failing("cuMemAlloc_v2", 2, () => api.allocate(123456))) as OutOfMemoryError;
      expect(error instanceof OutOfMemoryError).toBe(true);
      expect([error.wantedBytes, error.freeBytes]).toEqual([123456, 5000000000]);
      expect(error.message).toMatch(/device memory: 123456 bytes wanted; the device has 5000000000 of/);
      const host = thrown(() => fake.failing("cuMemHostAlloc", 2, () => api.allocateHost(77)));
      expect(host instanceof OutOfMemoryError).toBe(true);
    });

    testHere("pinned memory is portable, mapped, and visible as an ArrayBuffer", () => {
      const block = api.allocateHost(1000);
      expect(fake.number(0)).toBe(3n);
      expect(block.buffer.byteLength).toBe(1000);
      expect(block.devicePtr).toBe(0xd00d0000n as DevicePtr);
      new Uint8Array(block.buffer)[999] = 9;
      api.copyToDevice(ptr, block, 24, 976, stream);
      expect([fake.number(3), fake.number(4)]).toEqual([block.address + 24n, 976n]);
      expect(new Uint8Array(engine.view(block.address, 1000))[999]).toBe(9);
      api.freeHost(block);
      expect(fake.number(1)).toBe(block.address);
      expect(api.allocateHost(0).buffer.byteLength).toBe(0);
    });

    testHere("unfinished work is false, not an error; real errors are errors", () => {
      expect(api.queryStream(stream)).toBe(true);
      expect(fake.failing("cuStreamQuery", 600, () => api.queryStream(stream))).toBe(false);
      expect(fake.failing("cuEventQuery", 600, () => api.queryEvent(api.createEvent(true)))).toBe(false);
      const error = thrown(() => fake.failing("cuStreamQuery", 400, () => api.queryStream(stream)));
      expect(error.message).toMatch(/^cuStreamQuery: CUDA_ERROR_INVALID_HANDLE/);
    });

    testHere("events: timing only where it is asked for; milliseconds", () => {
      const timed = api.createEvent(true);
      expect([timed, api.createEvent(false)]).toEqual([0xe000n, 0xe002n]);
      expect(api.elapsedMs(timed, timed)).toBe(0.25);
    });

    testHere("peer access that is on already is success", () => {
      const context = api.retainContext(1);
      fake.failing("cuCtxEnablePeerAccess", 704, () => api.enablePeerAccess(context));
      expect(() => fake.failing("cuCtxEnablePeerAccess", 217, () => api.enablePeerAccess(context))).toThrow(
        /CUDA_ERROR_PEER_ACCESS_UNSUPPORTED/,
      );
      expect([api.canAccessPeer(0, 1), api.canAccessPeer(1, 1)]).toEqual([true, false]);
    });

    testHere("modules: the text ends with a NUL; functions by name", () => {
      const text = ".version 7.0\n.target sm_60\n";
      const padded = new TextEncoder().encode(`${text}GARBAGE`);
      const module = api.loadModule(padded.subarray(0, text.length), "test");
      expect(fake.text()).toBe(text);
      expect(api.getFunction(module, "rms_norm_bf16")).toBe(fn);
      expect(fake.text()).toBe("rms_norm_bf16");
      expect(() => fake.failing("cuModuleGetFunction", 500, () => api.getFunction(module, "x"))).toThrow(
        /CUDA_ERROR_NOT_FOUND/,
      );
    });

    testHere("PTX that the compiler refuses: ModuleError with its log", () => {
      const log = "ptxas application ptx input, line 3; fatal   : Parsing error near '.foo'\nptxas fatal: aborted\n";
      fake.jitLog(log);
      const load = () => api.loadModule(new Uint8Array([46]), "rms_norm/f16.sm_80");
      const error = thrown(() => fake.failing("cuModuleLoadDataEx", 218, load)) as ModuleError;
      expect(error instanceof ModuleError).toBe(true);
      expect(error.log).toBe(log.trim());
      expect(error.message).toMatch(/^rms_norm\/f16\.sm_80: .*CUDA_ERROR_INVALID_PTX .*line 3; fatal/);
      fake.jitLog("x".repeat(100_000));
      const long = thrown(() => fake.failing("cuModuleLoadDataEx", 218, load)) as ModuleError;
      expect(long.log.length < 20_000).toBe(true);
      fake.jitLog("");
      // Neither a full GPU nor a broken context is the text's fault.
      expect(thrown(() => fake.failing("cuModuleLoadDataEx", 2, load)) instanceof ModuleError).toBe(false);
    });

    testHere("function attributes", () => {
      expect(api.functionAttributes(fn)).toEqual({
        registers: 104,
        staticShared: 101,
        localBytes: 103,
        maxThreads: 100,
      });
      api.setMaxDynamicShared(fn, 232448);
      expect([fake.number(8), fake.number(9)]).toEqual([8n, 232448n]);
      expect(api.maxActiveBlocksPerMultiprocessor(fn, 256, 1000)).toBe(1256);
    });

    const shape = { grid: [3, 2, 65535], block: [256, 1, 1], sharedBytes: 49152 } as const;
    const expectedLaunch = { grid: [3, 2, 65535], block: [256, 1, 1], sharedBytes: 49152, fn, stream };

    testHere("a launch passes the argument bytes as they are, and reuses the block", () => {
      const args = api.scratch(64);
      expect(args.address % 64n).toBe(0n);
      new Uint8Array(args.buffer).set([1, 2, 3, 4, 5, 6, 7, 8, 9]);
      api.launch(fn, shape, stream, args, 9, false);
      expect(fake.launched()).toEqual({
        ...expectedLaunch,
        argBytes: 9,
        attribute: 0,
        attributeValue: 0,
        args: [1, 2, 3, 4, 5, 6, 7, 8, 9],
      });
      new Uint8Array(args.buffer)[0] = 99;
      api.launch(fn, { ...shape, sharedBytes: 0 }, stream, args, 4, false);
      expect(fake.launched().args).toEqual([99, 2, 3, 4]);
      expect(fake.launched().sharedBytes).toBe(0);
    });

    testHere("overlap sets programmatic stream serialization on sm_90, and only there", () => {
      const args = api.scratch(8);
      new Uint8Array(args.buffer).fill(5);
      api.setCurrent(api.retainContext(0));
      api.launch(fn, shape, stream, args, 8, true);
      expect(fake.launched()).toEqual({
        ...expectedLaunch,
        argBytes: 8,
        attribute: 6,
        attributeValue: 1,
        args: new Array(8).fill(5),
      });
      fake.capability(80);
      const ampere = fake.api();
      ampere.setCurrent(ampere.retainContext(0));
      ampere.launch(fn, shape, stream, ampere.scratch(8), 8, true);
      fake.capability(90);
      expect(fake.launched().attribute).toBe(0);
    });

    testHere("clusters go along x, with overlap or without", () => {
      const args = api.scratch(8);
      api.setCurrent(api.retainContext(0));
      for (const overlap of [true, false]) {
        api.launch(fn, { ...shape, cluster: 3 }, stream, args, 8, overlap);
        expect([12, 13, 14].map((i) => fake.number(i))).toEqual([3n, 1n, 1n]);
        expect(fake.launched()).toMatchObject({ ...expectedLaunch, attribute: overlap ? 6 : 0 });
      }
      api.launch(fn, shape, stream, args, 8, true);
      expect([12, 13, 14].map((i) => fake.number(i))).toEqual([0n, 0n, 0n]);
    });

    testHere("a driver of CUDA 11.0 launches, instantiates and updates in the old ways", () => {
      const legacy = old.api();
      expect(legacy.driverVersion()).toBe(11000);
      legacy.setCurrent(legacy.retainContext(0));
      legacy.launch(fn, shape, stream, legacy.scratch(8), 8, true);
      expect(old.launched().attribute).toBe(0);
      expect(legacy.instantiateGraph(1n as GraphHandle)).toBe(0x2222n as GraphExecHandle);
      expect(legacy.updateGraph(1n as GraphExecHandle, 1n as GraphHandle)).toBe(true);
      const layout = { address: ptr, element: "f16", dims: [1], strideBytes: [], box: [1], swizzle: 0 } as const;
      expect(() => legacy.encodeTensorMap(legacy.scratch(128), layout)).toThrow(UnsupportedError);
    });

    testHere(
      "graphs: captured while the host goes on (relaxed mode, 2), counted, updated, or reported as too different",
      () => {
        api.beginCapture(stream);
        expect(fake.number(10)).toBe(2n);
        const graph = api.endCapture(stream);
        expect(api.graphNodeCount(graph)).toBe(7);
        const exec = api.instantiateGraph(graph);
        expect(exec).toBe(0x3333n as GraphExecHandle);
        expect(api.updateGraph(exec, graph)).toBe(true);
        expect(fake.failing("cuGraphExecUpdate_v2", 910, () => api.updateGraph(exec, graph))).toBe(false);
        expect(() => fake.failing("cuGraphExecUpdate_v2", 1, () => api.updateGraph(exec, graph))).toThrow(
          /cuGraphExecUpdate_v2/,
        );
        api.launchGraph(exec, stream);
        expect(() => fake.failing("cuStreamEndCapture", 901, () => api.endCapture(stream))).toThrow(
          /CUDA_ERROR_STREAM_CAPTURE_INVALIDATED/,
        );
      },
    );

    testHere("tensor maps", () => {
      api.setCurrent(api.retainContext(0));
      const map = api.scratch(128);
      api.encodeTensorMap(map, {
        address: ptr,
        element: "bf16",
        dims: [4096, 2 ** 33],
        strideBytes: [8192],
        box: [64, 128],
        swizzle: 128,
      });
      const recorded = Array.from({ length: 14 }, (_, i) => fake.number(i));
      expect(recorded).toEqual([9n, 2n, ptr, 0n, 3n, 3n, 0n, 4096n, 2n ** 33n, 8192n, 64n, 128n, 1n, 1n]);
      expect(new Uint8Array(map.buffer)[127]).toBe(0xab);
      fake.capability(86);
      const ampere = fake.api();
      ampere.setCurrent(ampere.retainContext(0));
      const layout = { address: ptr, element: "u8", dims: [1], strideBytes: [], box: [1], swizzle: 0 } as const;
      expect(() => ampere.encodeTensorMap(map, layout)).toThrow(UnsupportedError);
      fake.capability(90);
    });
  });
}
