import type { Device } from "./device.ts";

export interface DeviceListing {
  readonly name: string;
  readonly description: string;
}

/** A kind of device that `openDevice` can open: `cuda` here; `sim` is registered from above. */
export interface DeviceProvider {
  /** What names begin with. */
  readonly kind: string;
  /** The full name for what follows the colon, "" when nothing does: `1` is `cuda:1`. Throws DeviceError. */
  resolve(detail: string): string;
  /** Opens by full name. Throws DeviceError. */
  open(name: string): Device;
  /** Never throws: what is missing is not listed. */
  list(): DeviceListing[];
}
