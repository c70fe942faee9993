import { bfloat16, type DType, type DTypeLike, dtype as dtypeOf, float16, float32 } from "../base/dtype.ts";
import { roundTo } from "../base/element.ts";
import { ArgumentError, DTypeError } from "../base/errors.ts";
import { type FourBitType, fourBitLevels } from "../base/four-bit.ts";
import type { Device } from "../driver/device.ts";
import { openDevice } from "../driver/open.ts";
import type { ModelConfig } from "../formats/config/model-config.ts";
import type { ModelFiles } from "../formats/model-files/model-files.ts";
import type { WeightSource } from "../formats/weight-source.ts";
import { CheckpointWeights } from "../nn/checkpoint-weights.ts";
import { type UploadProgress, uploadWeights } from "../nn/upload.ts";
import { RandomWeights, type Weights } from "../nn/weights.ts";
import type { QuantizeOptions } from "../tensor/quantized-weight.ts";
import { disposeOnThrow } from "../tensor/tidy.ts";
import { findArchitecture } from "./architectures.ts";
import { Decoder } from "./decoder.ts";
import { reportLeftOver, reportMixedExperts } from "./left-over.ts";
import { checkLoadable } from "./loadable.ts";
import { LoadedParameters } from "./loaded-parameters.ts";
import type { CausalNetwork } from "./network.ts";

export interface LoadOptions {
  /** What to compute in; by default what the checkpoint is stored in, or float16 where that is bfloat16 and the GPU has none. */
  readonly dtype?: DTypeLike | string | undefined;
  /**
   * Rounds the rotary frequencies to a 16-bit dtype, and with them the scale of Gemma's embeddings. They are float32 by
   * default, as from_pretrained has them; a model that was trained or evaluated after `model.to(torch.bfloat16)` or
   * `model.half()` had them rounded, which moves logits by about a percent within a hundred tokens.
   */
  readonly rotaryDtype?: DTypeLike | string | undefined;
  /**
   * Quantizes the layers' matrices while they are loaded, as bitsandbytes would, in blocks of 64; embedding and head, and what
   * is stored quantized already, stay as they are.
   */
  readonly quantization?: FourBitType | (string & {}) | undefined;
  readonly onProgress?: ((progress: UploadProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Builds the network that a checkpoint's config describes and streams its weights to the device. `where` (a device or its
 * name; by default LLCUDA_DEVICE, else the first GPU, else `sim`) is opened when files and options have been found sound.
 */
export async function loadNetwork(
  files: ModelFiles,
  config: ModelConfig,
  where: Device | string | undefined,
  options: LoadOptions = {},
): Promise<CausalNetwork> {
  findArchitecture(config);
  wantedDType(options.dtype);
  const quantize = quantizeOptions(options.quantization);
  using source = files.openWeights();
  checkLoadable(config, source, files.path);
  const device = typeof where === "object" ? where : openDevice(where);
  const dtype = computeDType(options.dtype, config.dtype ?? storedDType(source), device);
  if (dtype === float16 && config.overflowsFloat16) warnOfOverflow(config);
  const weights = CheckpointWeights.open(files.path, source, device, dtype, quantize);
  const network = buildNetwork(withRotaryDType(config, options.rotaryDtype), weights);
  try {
    reportLeftOver(config, weights);
    reportMixedExperts(weights);
    await uploadWeights(source, weights.uploads, device, {
      ...(options.onProgress && { onProgress: options.onProgress }),
      ...(options.signal && { signal: options.signal }),
    });
    network.loaded = new LoadedParameters(network, weights.uploads);
    return network;
  } catch (error) {
    network.dispose();
    throw error;
  }
}

/** The same network with random weights: for measuring shapes that no file is at hand for. */
export function randomNetwork(
  config: ModelConfig,
  device: Device,
  dtype: DTypeLike,
  quantization?: LoadOptions["quantization"],
): CausalNetwork {
  const quantize = quantizeOptions(quantization);
  return buildNetwork(config, new RandomWeights(device, computeDType(dtype, undefined, device), quantize));
}

/** Throws ArgumentError for a type that weights cannot be quantized to on the way. */
function quantizeOptions(quantization: LoadOptions["quantization"]): QuantizeOptions | undefined {
  if (quantization === undefined) return undefined;
  if (Object.hasOwn(fourBitLevels, quantization)) return { type: quantization as FourBitType };
  throw new ArgumentError(
    `quantization: unknown type "${quantization}"; weights are quantized on loading to ${Object.keys(fourBitLevels).join(" or ")}`,
  );
}

function buildNetwork(config: ModelConfig, weights: Weights): CausalNetwork {
  const { layer } = findArchitecture(config);
  return disposeOnThrow(() => new Decoder(config, weights, layer));
}

function withRotaryDType(config: ModelConfig, wanted: LoadOptions["rotaryDtype"]): ModelConfig {
  if (wanted === undefined) return config;
  const frequencyDType = dtypeOf(wanted);
  if (!frequencyDType.isFloat) {
    throw new DTypeError(`rotaryDtype: frequencies are float32, float16 or bfloat16, not ${frequencyDType.name}`);
  }
  const rope = { ...config.rope, frequencyDType };
  const slidingRope = config.slidingRope === config.rope ? rope : { ...config.slidingRope, frequencyDType };
  return { ...config, rope, slidingRope, embeddingScale: roundTo(frequencyDType, config.embeddingScale) };
}

/** Of what is stored in plain numbers; beside GGML blocks those are float32 norms, which say nothing: float16, as their scales. */
function storedDType(source: WeightSource): DType | undefined {
  const infos = [...source.tensors.values()];
  if (infos.some((info) => info.ggml)) return float16;
  return infos.find((info) => info.elementType?.isFloat)?.elementType;
}

/** Tensor cores and conversions for bfloat16 begin with this capability; older GPUs only emulate it. */
const bfloat16Capability = 80;

function computeDType(like: DTypeLike | string | undefined, stored: DType | undefined, device: Device): DType {
  const wanted = wantedDType(like);
  if (wanted) return wanted;
  if (stored !== bfloat16 || device.attributes.capability >= bfloat16Capability) return stored ?? float32;
  process.emitWarning(
    `${device.attributes.name} has no bfloat16 arithmetic, so this bfloat16 checkpoint runs in float16; ask for dtype "bfloat16" (emulated, slower) or "float32" if values overflow`,
    { type: "LlcudaWarning" },
  );
  return float16;
}

function warnOfOverflow(config: ModelConfig): void {
  process.emitWarning(
    `${config.source.file}: activations of ${config.modelType} models in real sizes pass 65504, the largest number of float16, and its logits are then not numbers; load it in bfloat16 or float32`,
    { type: "LlcudaWarning" },
  );
}

/** Undefined for `auto`. Throws DTypeError for a type that models do not compute in. */
function wantedDType(like: DTypeLike | string | undefined): DType | undefined {
  if (like === undefined || like === "auto") return undefined;
  const dtype = knownDType(like);
  if (dtype?.isFloat) return dtype;
  const given = typeof like === "string" ? like : like.name;
  throw new DTypeError(`dtype: a model computes in float32, float16 or bfloat16, not in "${given}"`);
}

function knownDType(like: DTypeLike | string): DType | undefined {
  try {
    return dtypeOf(like);
  } catch {
    return undefined; // the caller names the types that a model can have, not all there are
  }
}
