import { DeviceError } from "../base/errors.ts";
import { settings } from "../base/settings.ts";
import { CudaProvider } from "./cuda/provider.ts";
import type { Device } from "./device.ts";
import type { DeviceListing, DeviceProvider } from "./provider.ts";

export type { DeviceListing, DeviceProvider } from "./provider.ts";

/** What is open on this thread. Primary contexts belong to the process, so one table is what there is to know. */
const open = new Map<string, Device>();
/** The entry of `open` for what a missing name means. */
const unnamed = "default";
const providers = new Map<string, DeviceProvider>([["cuda", new CudaProvider()]]);

/** Adds a kind of device (`sim`), for `openDevice("sim…")` and `listDevices()`. */
export function registerDevices(provider: DeviceProvider): void {
  providers.set(provider.kind, provider);
}

/**
 * Opens a device by name: `cuda`, `cuda:1`, `sim`, `sim:sm_80`. Without a name: LLCUDA_DEVICE, else the first GPU, else
 * the software device, which one line on standard error says. The same name gives the same Device until it is disposed.
 * Throws DeviceError that says what is missing and what to do.
 */
export function openDevice(name: string | undefined = settings.device()): Device {
  if (name === undefined) return openDefault();
  const [kind = "", detail = ""] = name.split(/:(.*)/s, 2);
  const provider = providers.get(kind);
  if (!provider) {
    const known = [...providers.keys()].map((k) => `"${k}"`).join(" or ");
    throw new DeviceError(`device "${name}": unknown kind "${kind}"; use ${known}, with an index such as "cuda:0"`);
  }
  const full = provider.resolve(detail);
  const found = open.get(full);
  if (found && !found.disposed) return found;
  const device = provider.open(full);
  open.set(full, device);
  return device;
}

function openDefault(): Device {
  const found = open.get(unnamed);
  if (found && !found.disposed) return found;
  const device = openFirst();
  open.set(unnamed, device);
  return device;
}

/** The first GPU; where there is none that can be used, for whatever reason, the software device and the reason. */
function openFirst(): Device {
  try {
    return openDevice("cuda");
  } catch (error) {
    if (!(error instanceof DeviceError) || !providers.has("sim")) throw error;
    const device = openDevice("sim");
    process.stderr.write(`llcuda: running on ${device.name}, the software device, which is slow: ${error.message}\n`);
    return device;
  }
}

/** What can be opened, without opening it. */
export function listDevices(): DeviceListing[] {
  return [...providers.values()].flatMap((provider) => provider.list());
}
