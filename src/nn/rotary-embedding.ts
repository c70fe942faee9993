import type { Device } from "../driver/device.ts";
import type { RopeConfig } from "../formats/config/rope.ts";
import type { DynamicRope, RopeAngles } from "../kernels/rope/rope.ts";
import { Tensor } from "../tensor/tensor.ts";
import type { ForwardContext } from "./forward-context.ts";
import { ropeFrequencies } from "./rope-frequencies.ts";

/** The rotary angles of one model: a frequency table on the device, shared by its layers. Not a parameter: no dtype. */
export class RotaryEmbedding implements Disposable {
  readonly rotaryDim: number;
  readonly attentionScale: number;
  readonly #frequencies: Tensor;
  readonly #dynamic: { readonly factor: number; readonly trainedContext: number } | undefined;

  constructor(device: Device, config: RopeConfig, rotaryDim: number) {
    const { frequencies, attentionScale, dynamic } = ropeFrequencies(config, rotaryDim);
    this.rotaryDim = rotaryDim;
    this.attentionScale = attentionScale;
    this.#frequencies = Tensor.from(frequencies, { dtype: "float32", device });
    this.#dynamic = dynamic;
  }

  /** What the rotary kernels need for a batch. */
  angles(context: ForwardContext): RopeAngles {
    const dynamic: DynamicRope | undefined = this.#dynamic && {
      ...this.#dynamic,
      queryStarts: context.queryStarts.ptr,
      contextLengths: context.contextLengths.ptr,
      sequences: context.sequences,
    };
    return {
      positions: context.positions.ptr,
      frequencies: this.#frequencies.ptr,
      attentionScale: this.attentionScale,
      rotaryDim: this.rotaryDim,
      ...(dynamic ? { dynamic } : {}),
    };
  }

  dispose(): void {
    this.#frequencies.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
