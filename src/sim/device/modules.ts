import { ModuleError } from "../../base/errors.ts";
import type { FunctionAttributes, FunctionHandle, ModuleHandle } from "../../driver/api.ts";
import { compileKernel } from "../compile/kernel.ts";
import type { Entry, PtxModule, Variable } from "../ptx/ast.ts";
import { parsePtx } from "../ptx/parser.ts";
import { KernelInstance } from "../run/launch.ts";
import type { LaunchWatcher } from "../run/watch.ts";
import type { SimDevice } from "./device.ts";
import { found, simError } from "./errors.ts";

export interface SimFunction {
  readonly device: SimDevice;
  readonly entry: Entry;
  readonly kernel: KernelInstance;
  /** The kernel as a watcher sees it: translated anew, to report what it does. */
  watchedBy(watcher: LaunchWatcher): KernelInstance;
  maxDynamicShared: number;
}

interface LoadedModule {
  readonly ptx: PtxModule;
  readonly device: SimDevice;
  /** Offset of the module's global and constant variables in device memory. */
  readonly globals: number | undefined;
  readonly functions: Map<string, FunctionHandle>;
}

const defaultDynamicShared = 48 * 1024;

/** Loaded PTX and the functions taken from it. Kernels are translated when they are first asked for. */
export class SimModules {
  readonly #modules = new Map<ModuleHandle, LoadedModule>();
  readonly #functions = new Map<FunctionHandle, SimFunction>();
  readonly #handle: () => bigint;

  constructor(handle: () => bigint) {
    this.#handle = handle;
  }

  load(text: string, name: string, device: SimDevice, capability: number): ModuleHandle {
    const ptx = parsePtx(text, name);
    const needed = Number.parseInt(ptx.target.slice(3), 10);
    if (!(needed <= capability) || /[af]$/.test(ptx.target)) {
      const detail = `${name}: PTX for ${ptx.target} does not run on a device of capability ${capability / 10}`;
      throw new ModuleError(detail, detail);
    }
    let globals: number | undefined;
    if (ptx.globalBytes > 0) {
      globals = Number(device.allocate(ptx.globalBytes, `variables of ${name}`) - device.deviceBase);
      const { u8 } = device.memory;
      u8.fill(0, globals, globals + ptx.globalBytes);
      device.checked?.device.write(globals, ptx.globalBytes);
      for (const { initial, offset } of ptx.variables) if (initial) u8.set(initial, globals + offset);
    }
    const handle = this.#handle() as ModuleHandle;
    this.#modules.set(handle, { ptx, device, globals, functions: new Map() });
    return handle;
  }

  unload(handle: ModuleHandle): void {
    const { device, globals, functions } = found(this.#modules.get(handle), "cuModuleUnload", "module");
    if (globals !== undefined) device.arena.free(globals);
    for (const fn of functions.values()) this.#functions.delete(fn);
    this.#modules.delete(handle);
  }

  getFunction(handle: ModuleHandle, name: string): FunctionHandle {
    const { ptx, device, globals, functions } = found(this.#modules.get(handle), "cuModuleGetFunction", "module");
    const known = functions.get(name);
    if (known !== undefined) return known;
    const entry = ptx.entries.find((e) => e.name === name);
    if (!entry) throw simError("cuModuleGetFunction", "CUDA_ERROR_NOT_FOUND", `${ptx.name} has no kernel ${name}`);
    const options = {
      deviceBase: device.deviceBase,
      globalAddress: ({ offset }: Variable) => device.deviceBase + BigInt((globals ?? 0) + offset),
      checked: device.checks,
      shared: device.memory.shared,
    };
    const watched = new WeakMap<LaunchWatcher, KernelInstance>();
    const watchedBy = (watcher: LaunchWatcher): KernelInstance => {
      let instance = watched.get(watcher);
      if (!instance) {
        const compiled = compileKernel(entry, ptx, { ...options, checked: true, flow: watcher.flow });
        instance = new KernelInstance(compiled, device, 0, watcher);
        watched.set(watcher, instance);
      }
      return instance;
    };
    const fn = this.#handle() as FunctionHandle;
    const kernel = new KernelInstance(compileKernel(entry, ptx, options), device);
    this.#functions.set(fn, { device, entry, kernel, watchedBy, maxDynamicShared: defaultDynamicShared });
    functions.set(name, fn);
    return fn;
  }

  function(handle: FunctionHandle, symbol: string): SimFunction {
    return found(this.#functions.get(handle), symbol, "function");
  }

  attributes(handle: FunctionHandle): FunctionAttributes {
    const { entry } = this.function(handle, "cuFuncGetAttribute");
    return {
      // What ptxas would assign is not known; this is what most kernels stay within.
      registers: 32,
      staticShared: entry.sharedBytes,
      localBytes: entry.localBytes,
      maxThreads: Math.min(1024, entry.maxThreads ?? 1024),
    };
  }
}
