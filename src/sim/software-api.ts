import { ArgumentError } from "../base/errors.ts";
import type { Device } from "../driver/device.ts";
import { SimApi } from "./api.ts";

/** The simulator behind a device. Throws ArgumentError, which names `what` needs it, for a GPU. */
export function softwareApi(device: Device, what: string): SimApi {
  if (device.api instanceof SimApi) return device.api;
  throw new ArgumentError(`${what}: ${device.name} is a GPU; kernels can be watched on the software device, "sim"`);
}
