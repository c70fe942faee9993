import type { Device } from "../driver/device.ts";
import type { RopeConfig } from "../formats/config/rope.ts";
import type { RopeAngles, RopeByLength } from "../kernels/rope/rope.ts";
import { Tensor } from "../tensor/tensor.ts";
import type { ForwardContext } from "./forward-context.ts";
import { type RopeFrequencies, ropeFrequencies } from "./rope-frequencies.ts";

/** The rotary angles of one model: a frequency table on the device, shared by its layers. Not a parameter: no dtype. */
export class RotaryEmbedding implements Disposable {
  readonly rotaryDim: number;
  readonly attentionScale: number;
  readonly #frequencies: Tensor;
  readonly #byLength: RopeFrequencies["byLength"];

  constructor(device: Device, config: RopeConfig, rotaryDim: number) {
    const { frequencies, attentionScale, byLength } = ropeFrequencies(config, rotaryDim);
    this.rotaryDim = rotaryDim;
    this.attentionScale = attentionScale;
    this.#frequencies = Tensor.from(frequencies, { dtype: "float32", device });
    this.#byLength = byLength;
  }

  /**
   * Tokens of a sequence beyond which all its keys would have been turned otherwise, so that those in the cache no longer hold
   * (rope_type "longrope"); undefined where they always do.
   */
  get keysHoldUpTo(): number | undefined {
    // "dynamic" changes with every token beyond its context; like the reference, it leaves the keys as they were.
    return this.#byLength?.factor === undefined ? this.#byLength?.trainedContext : undefined;
  }

  /** What the rotary kernels need for a batch. */
  angles(context: ForwardContext): RopeAngles {
    const byLength: RopeByLength | undefined = this.#byLength && {
      ...this.#byLength,
      queryStarts: context.queryStarts.ptr,
      sequenceLengths: (context.sequenceLengths ?? context.contextLengths).ptr,
      sequences: context.sequences,
    };
    return {
      positions: context.positions.ptr,
      frequencies: this.#frequencies.ptr,
      attentionScale: this.attentionScale,
      rotaryDim: this.rotaryDim,
      ...(byLength ? { byLength } : {}),
    };
  }

  dispose(): void {
    this.#frequencies.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
