import { FormatError } from "../../base/errors.ts";
import type { LoraAdapter, LoraModule } from "../../formats/peft/adapter.ts";
import type { TensorInfo, WeightSource } from "../../formats/weight-source.ts";

/**
 * Whether any low-rank product of an adapter is not zero. B starts as zeros, so an adapter that was saved before it was
 * trained has none; a bias of B and DoRA's magnitudes count as a change. Reads no more than it takes to find one.
 */
export function hasEffect(adapter: LoraAdapter): boolean {
  const isSet = (info: TensorInfo) => isNonZero(adapter.source, info);
  const works = ({ scale, a, b, bias, magnitude }: LoraModule) =>
    magnitude !== undefined || (scale !== 0 && ((isSet(b) && isSet(a)) || (bias !== undefined && isSet(bias))));
  return [...adapter.modules.values()].some(works);
}

/** The error for an adapter that would leave every logit as it is. */
export function changesNothing({ directory }: LoraAdapter): FormatError {
  return new FormatError(
    directory,
    `${directory}: the adapter changes nothing: every product of its A and B is zero, and no weight differs from the base's; was it saved before it was trained?`,
  );
}

function isNonZero(source: WeightSource, info: TensorInfo): boolean {
  const bytes = source.read(info.name);
  // The sign says nothing: -0 is zero, too.
  const elementBytes = info.elementType!.bytes;
  return bytes.some((byte, i) => (i % elementBytes === elementBytes - 1 ? (byte & 0x7f) !== 0 : byte !== 0));
}
