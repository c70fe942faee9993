import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { brotliDecompressSync } from "node:zlib";
import { FileError } from "../base/errors.ts";
import { settings } from "../base/settings.ts";
import type { HostBlock } from "../driver/api.ts";
import type { Device } from "../driver/device.ts";
import type { KernelFunction } from "../driver/module.ts";
import type { Stream } from "../driver/stream.ts";
import { argLayout, compilePacker, type Packer } from "./arguments.ts";
import { ptxFileName } from "./manifest.ts";
import {
  type ArgSpec,
  type ArgValues,
  type KernelSpec,
  type Target,
  type VariantAxes,
  type VariantOf,
  variantSymbol,
} from "./spec.ts";
import { pickTarget, runnableTargets, targetNumber } from "./target.ts";

/** `ptx/` of the package: two folders above this file, in `src` and in `dist` alike. */
export const ptxRoot: string = fileURLToPath(new URL("../../ptx/", import.meta.url));

/** Missing sizes are 1. */
export interface KernelShape {
  readonly grid: readonly [x: number, y?: number, z?: number];
  readonly block: number | readonly [x: number, y?: number, z?: number];
  /** Dynamic shared memory. */
  readonly sharedBytes?: number;
  /** Blocks of a cluster, where its kernel leaves that to the launch; grid[0] is a multiple of it. */
  readonly cluster?: number;
}

export interface LaunchOptions {
  /**
   * The kernel calls wait_for_previous() (common/launch.cuh) before it touches what earlier work wrote, so it may start
   * while that still runs. Ignored for targets before sm_90, whose builds do not wait.
   */
  readonly overlap?: boolean;
}

/** A loaded variant and what its launches need. */
interface Loaded {
  readonly fn: KernelFunction;
  readonly target: Target;
  readonly mayOverlap: boolean;
}

/** What one device holds of one specification: the argument block is shared by all variants and reused by every launch. */
interface SpecOnDevice {
  readonly axes: readonly string[];
  readonly block: HostBlock;
  readonly bytes: number;
  readonly pack: Packer<ArgSpec>;
  /** A map per axis, the last one to Loaded. */
  readonly variants: VariantNode;
}
type VariantNode = Map<string, VariantNode | Loaded>;

interface DeviceLibrary {
  readonly runnable: readonly Target[];
  readonly specs: Map<KernelSpec<never, never>, SpecOnDevice>;
  /** Filled in for each launch: the driver reads it before `launch` returns. */
  readonly shape: {
    grid: [number, number, number];
    block: [number, number, number];
    sharedBytes: number;
    cluster: number;
  };
}

const libraries = new WeakMap<Device, DeviceLibrary>();

function libraryOf(device: Device): DeviceLibrary {
  let library = libraries.get(device);
  if (!library) {
    library = {
      runnable: runnableTargets(device.attributes.capability, settings.target()),
      specs: new Map(),
      shape: { grid: [1, 1, 1], block: [1, 1, 1], sharedBytes: 0, cluster: 1 },
    };
    libraries.set(device, library);
  }
  return library;
}

/**
 * The target whose PTX this device takes a variant from: the newest built one that it can run, within LLCUDA_TARGET.
 * Throws UnsupportedError when none was built, ArgumentError for an unusable LLCUDA_TARGET.
 */
export function chooseTarget<A extends ArgSpec, X extends VariantAxes>(
  spec: KernelSpec<A, X>,
  variant: VariantOf<X>,
  device: Device,
): Target {
  return pickTarget(spec, variant, libraryOf(device).runnable);
}

/** The targets that this device may run PTX of, newest first; LLCUDA_TARGET limits them. */
export function deviceTargets(device: Device): readonly Target[] {
  return libraryOf(device).runnable;
}

/**
 * Launches one variant. Its module is compiled by the driver at the first launch on each device; later launches are a
 * few map lookups, typed stores into a native block and one driver call, and allocate nothing. Grid sizes must be at least 1.
 * Throws UnsupportedError, FileError for missing PTX, ModuleError, CudaError.
 */
export function launch<A extends ArgSpec, X extends VariantAxes>(
  stream: Stream,
  spec: KernelSpec<A, X>,
  variant: VariantOf<X>,
  shape: KernelShape,
  args: ArgValues<A>,
  options?: LaunchOptions,
): void {
  const library = libraryOf(stream.device);
  const onDevice = library.specs.get(spec as never) ?? prepare(library, stream.device, spec);
  const loaded = find(onDevice, variant) ?? load(library, onDevice, stream.device, spec, variant);
  onDevice.pack(args as never);
  const s = library.shape;
  s.grid[0] = shape.grid[0];
  s.grid[1] = shape.grid[1] ?? 1;
  s.grid[2] = shape.grid[2] ?? 1;
  const block = shape.block;
  if (typeof block === "number") {
    s.block[0] = block;
    s.block[1] = 1;
    s.block[2] = 1;
  } else {
    s.block[0] = block[0];
    s.block[1] = block[1] ?? 1;
    s.block[2] = block[2] ?? 1;
  }
  s.sharedBytes = shape.sharedBytes ?? 0;
  s.cluster = shape.cluster ?? 1;
  const overlap = loaded.mayOverlap && options?.overlap === true;
  loaded.fn.launch(stream, s, onDevice.block, onDevice.bytes, overlap);
}

/** The loaded function of a variant, for its attributes and occupancy; loads it when it is not yet. */
export function kernelFunction<A extends ArgSpec, X extends VariantAxes>(
  device: Device,
  spec: KernelSpec<A, X>,
  variant: VariantOf<X>,
): KernelFunction {
  const library = libraryOf(device);
  const onDevice = library.specs.get(spec as never) ?? prepare(library, device, spec);
  return (find(onDevice, variant) ?? load(library, onDevice, device, spec, variant)).fn;
}

function find(onDevice: SpecOnDevice, variant: Readonly<Record<string, string>>): Loaded | undefined {
  let node: VariantNode | Loaded | undefined = onDevice.variants;
  for (const axis of onDevice.axes) node = (node as VariantNode | undefined)?.get(variant[axis]!);
  return onDevice.axes.length === 0 ? (onDevice.variants.get("") as Loaded | undefined) : (node as Loaded | undefined);
}

function prepare<A extends ArgSpec, X extends VariantAxes>(
  library: DeviceLibrary,
  device: Device,
  spec: KernelSpec<A, X>,
): SpecOnDevice {
  const { bytes, fields } = argLayout(spec.args);
  // Every parameter by its own pointer where a tensor map moves the others; see DriverApi.scratch.
  const oneByOne = fields.some((field) => field.type === "tensorMap");
  const offsets = oneByOne ? fields.map((field) => field.offset) : [];
  const block = device.api.scratch(Math.max(64, Math.ceil(bytes / 64) * 64), offsets);
  const pack = compilePacker(spec.args, block) as Packer<ArgSpec>;
  const onDevice = { axes: Object.keys(spec.axes), block, bytes, pack, variants: new Map() };
  library.specs.set(spec as never, onDevice);
  return onDevice;
}

function load<A extends ArgSpec, X extends VariantAxes>(
  library: DeviceLibrary,
  onDevice: SpecOnDevice,
  device: Device,
  spec: KernelSpec<A, X>,
  variant: VariantOf<X>,
): Loaded {
  const target = pickTarget(spec, variant, library.runnable);
  const symbol = variantSymbol(spec, variant);
  const file = `${spec.family}/${ptxFileName(symbol, target)}`;
  const fn = device.loadModule(readPtx(file), file).getFunction(symbol);
  const loaded = { fn, target, mayOverlap: targetNumber(target) >= 90 };
  const path = onDevice.axes.length === 0 ? [""] : onDevice.axes.map((axis) => variant[axis] as string);
  let node = onDevice.variants;
  for (const value of path.slice(0, -1)) {
    const next = (node.get(value) as VariantNode | undefined) ?? new Map();
    node.set(value, next);
    node = next;
  }
  node.set(path[path.length - 1]!, loaded);
  return loaded;
}

/** Reads one PTX text of `ptx/`, where it is stored compressed. Throws FileError that says what to do about a missing one. */
export function readPtx(file: string): Uint8Array {
  return read(file, `${file}.br`, brotliDecompressSync);
}

/** Reads one file of `ptx/` as it is. */
export function readShipped(file: string): Uint8Array {
  return read(file, file, (bytes) => bytes);
}

function read(file: string, stored: string, decode: (bytes: Uint8Array) => Uint8Array): Uint8Array {
  const path = `${ptxRoot}${stored}`;
  try {
    return decode(readFileSync(path));
  } catch (cause) {
    throw new FileError(
      path,
      `kernel file ptx/${file} cannot be read; reinstall llcuda, or run "npm run ptx" in a checkout`,
      { cause },
    );
  }
}
