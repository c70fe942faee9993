import { DeviceError, LlcudaError } from "../../base/errors.ts";
import { Device } from "../device.ts";
import type { DeviceListing, DeviceProvider } from "../provider.ts";
import { CudaApi } from "./api.ts";

/** GPUs by ordinal: `cuda:0` is the first that CUDA_VISIBLE_DEVICES shows. */
export class CudaProvider implements DeviceProvider {
  readonly kind = "cuda";
  readonly #makeApi: () => CudaApi;
  #api: CudaApi | undefined;

  constructor(makeApi: () => CudaApi = () => new CudaApi()) {
    this.#makeApi = makeApi;
  }

  /** The driver, opened on first use. Throws DeviceError. */
  get api(): CudaApi {
    this.#api ??= this.#makeApi();
    return this.#api;
  }

  resolve(detail: string): string {
    if (detail === "") return "cuda:0";
    if (!/^\d{1,4}$/.test(detail)) {
      throw new DeviceError(`device "cuda:${detail}": "${detail}" is not an index; use "cuda:0" for the first GPU`);
    }
    return `cuda:${Number(detail)}`;
  }

  open(name: string): Device {
    const ordinal = Number(name.slice("cuda:".length));
    const count = this.api.deviceCount();
    if (ordinal >= count) {
      const range = count === 1 ? `use "cuda:0"` : `use "cuda:0" to "cuda:${count - 1}"`;
      throw new DeviceError(
        count === 0
          ? `device "${name}": the NVIDIA driver lists no GPU; check CUDA_VISIBLE_DEVICES and nvidia-smi`
          : `device "${name}": there ${count === 1 ? "is 1 GPU" : `are ${count} GPUs`}; ${range}`,
      );
    }
    return new Device(this.api, ordinal, name);
  }

  list(): DeviceListing[] {
    try {
      return Array.from({ length: this.api.deviceCount() }, (_, ordinal) => {
        const { name, capability, totalMemory } = this.api.deviceAttributes(ordinal);
        const gib = (totalMemory / 2 ** 30).toFixed(0);
        return { name: `cuda:${ordinal}`, description: `${name}, sm_${capability}, ${gib} GiB` };
      });
    } catch (error) {
      if (error instanceof LlcudaError) return [];
      throw error;
    }
  }
}
