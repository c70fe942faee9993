import { DeviceError } from "../base/errors.ts";
import { settings } from "../base/settings.ts";
import { Device } from "../driver/device.ts";
import type { DeviceListing, DeviceProvider } from "../driver/provider.ts";
import { SimApi } from "./api.ts";
import { defaultSimTarget, devicesPerTarget, simTargets } from "./device/targets.ts";

export interface SimOptions {
  /** Watch kernels for wrong accesses, races and barriers, see docs/sim.md. By default what LLCUDA_SIM_CHECK says. */
  readonly checks?: boolean;
}

/** Software devices: `sim`, `sim:sm_60`, and `sim:sm_60:1` for another of the same architecture. */
export class SimProvider implements DeviceProvider {
  readonly kind = "sim";
  readonly #checks: boolean | undefined;
  #api: SimApi | undefined;

  constructor({ checks }: SimOptions = {}) {
    this.#checks = checks;
  }

  resolve(detail: string): string {
    const [target = "", index = "0"] = detail === "" ? [defaultSimTarget] : detail.split(":");
    if (!simTargets.includes(target) || !/^\d$/.test(index) || Number(index) >= devicesPerTarget) {
      const known = simTargets.map((t) => `"sim:${t}"`).join(", ");
      throw new DeviceError(
        `device "sim:${detail}": the software devices are ${known}, each from ":0" to ":${devicesPerTarget - 1}"`,
      );
    }
    return index === "0" ? `sim:${target}` : `sim:${target}:${index}`;
  }

  open(name: string): Device {
    this.#api ??= new SimApi({ checks: this.#checks ?? settings.simChecks() });
    const [, target = "", index = "0"] = name.split(":");
    return new Device(this.#api, Number(index) * simTargets.length + simTargets.indexOf(target), name);
  }

  list(): DeviceListing[] {
    return simTargets.map((target) => ({
      name: `sim:${target}`,
      description: `software device, ${target}, on the CPU${target === defaultSimTarget ? "; sim means this one" : ""}`,
    }));
  }
}
