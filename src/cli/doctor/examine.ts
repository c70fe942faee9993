import { LlcudaError } from "../../base/errors.ts";
import { settings } from "../../base/settings.ts";
import { formatCudaVersion } from "../../driver/cuda/load.ts";
import type { Device } from "../../driver/device.ts";
import { listDevices, openDevice } from "../../driver/open.ts";
import { findLibrary, type LibrarySearch } from "../../ffi/library.ts";
import { ffiEngine } from "../../ffi/select.ts";
import { loadAllModules } from "../../kernels/inspect.ts";
import { deviceTargets } from "../../kernels/library.ts";
import { registerSim } from "../../sim/register.ts";
import { Tensor } from "../../tensor/tensor.ts";
import { tidy } from "../../tensor/tidy.ts";
import { formatBytes } from "../terminal.ts";
import type { Finding, Report } from "./finding.ts";

/** Looks at everything that llcuda needs, one step after another. Says what it is about to do, since any step may crash. */
export function* examine(): Generator<Report, void> {
  yield* examineRuntime();
  yield { doing: "opening the NVIDIA driver" };
  const devices = yield* examineDriver();
  for (const name of devices) yield* examineDevice(name);
  yield { doing: "running a kernel on the software device" };
  yield examineSoftwareDevice();
  yield { doing: "looking for cuBLASLt" };
  yield examineCublasLt();
}

function* examineRuntime(): Generator<Report, void> {
  const section = "runtime";
  const bun = process.versions.bun;
  const name = bun ? `Bun ${bun}` : `Node ${process.versions.node}`;
  yield { section, label: "runtime", status: "ok", detail: `${name}, ${process.platform} ${process.arch}` };
  yield { doing: "loading the FFI engine" };
  try {
    yield { section, label: "FFI engine", status: "ok", detail: ffiEngine().name };
  } catch (error) {
    yield { section, label: "FFI engine", status: "failed", detail: messageOf(error) };
  }
}

function* examineDriver(): Generator<Report, string[]> {
  const section = "driver";
  const search = findLibrary("cuda", ffiEngine());
  if (!search.library) {
    yield { section, label: "library", status: "failed", detail: `${tried(search)}; install the NVIDIA driver` };
    return [];
  }
  yield { section, label: "library", status: "ok", detail: `${search.library.path} (${search.source})` };
  yield { doing: "initializing the NVIDIA driver" };
  const devices = listDevices().filter((device) => device.name.startsWith("cuda"));
  try {
    const version = openDevice(devices[0]?.name ?? "cuda:0").api.driverVersion();
    yield { section, label: "version", status: "ok", detail: `supports CUDA ${formatCudaVersion(version)}` };
  } catch (error) {
    yield { section, label: "version", status: "failed", detail: messageOf(error) };
  }
  return devices.map((device) => device.name);
}

function* examineDevice(name: string): Generator<Report, void> {
  yield { doing: `opening ${name}` };
  const device = openDevice(name);
  const { attributes } = device;
  const ok = (label: string, detail: string): Finding => ({ section: name, label, status: "ok", detail });
  yield ok("GPU", `${attributes.name}, sm_${attributes.capability}, ${attributes.multiprocessors} multiprocessors`);
  const { freeBytes, totalBytes } = device.memoryInfo();
  yield ok("memory", `${formatBytes(freeBytes)} free of ${formatBytes(totalBytes)}`);
  const targets = deviceTargets(device);
  yield ok("PTX targets", targets.join(", "));
  yield* examineModules(device);
  if (attributes.capability < 80) {
    const detail = "no bfloat16 arithmetic before sm_80: bfloat16 checkpoints run in float16";
    yield { section: name, label: "bfloat16", status: "slow", detail };
  }
  const forced = settings.target();
  if (forced !== undefined) {
    const detail = `LLCUDA_TARGET=${forced} keeps newer kernels out; unset it for full speed`;
    yield { section: name, label: "target", status: "slow", detail };
  }
}

function* examineModules(device: Device): Generator<Report, void> {
  const section = device.name;
  const begin = performance.now();
  let loaded = 0;
  let slowest = { file: "", ms: 0 };
  let failures = 0;
  yield { doing: `${device.name}: loading kernels` };
  for (const { file, ms, error } of loadAllModules(device)) {
    if (error === undefined) loaded++;
    else {
      failures++;
      yield { section, label: `ptx/${file}`, status: "failed", detail: error };
    }
    if (ms > slowest.ms) slowest = { file, ms };
    yield { doing: `${device.name}: loading kernels, after ptx/${file}` };
  }
  const seconds = ((performance.now() - begin) / 1000).toFixed(1);
  const detail = `${loaded} modules in ${seconds} s, slowest ${slowest.file} (${slowest.ms.toFixed(0)} ms)${failures ? `; ${failures} failed` : ""}`;
  yield { section, label: "kernels", status: failures ? "failed" : "ok", detail };
}

/** That it runs a kernel, which takes WebAssembly with vector instructions and the memory that a device reserves. */
function examineSoftwareDevice(): Finding {
  const section = "software device";
  const label = "sim";
  try {
    registerSim();
    using device = openDevice("sim");
    const sum = tidy(() => Tensor.arange(0, 1000, 1, { dtype: "int32", device }).sum().item());
    if (sum !== 499_500) return { section, label, status: "failed", detail: `0 + 1 + … + 999 gave ${sum}` };
    const detail = `runs kernels for sm_${device.attributes.capability} on the CPU; the default where there is no GPU`;
    return { section, label, status: "ok", detail };
  } catch (error) {
    return { section, label, status: "failed", detail: messageOf(error) };
  }
}

function examineCublasLt(): Finding {
  const section = "libraries";
  const label = "cuBLASLt";
  if (!settings.useCublasLt()) {
    return { section, label, status: "slow", detail: "switched off by LLCUDA_CUBLASLT=0; llcuda's own kernels serve" };
  }
  const search = findLibrary("cublaslt", ffiEngine());
  if (search.library) return { section, label, status: "ok", detail: `${search.library.path} (${search.source})` };
  const detail = `${tried(search)}; llcuda's own kernels serve, and long prompts may take longer: pip install nvidia-cublas`;
  return { section, label, status: "missing", detail };
}

function tried({ attempts }: LibrarySearch): string {
  return attempts.length === 0 ? "not found" : `not found, tried ${attempts.map((a) => a.file).join(", ")}`;
}

function messageOf(error: unknown): string {
  if (error instanceof LlcudaError) return error.message;
  throw error;
}
