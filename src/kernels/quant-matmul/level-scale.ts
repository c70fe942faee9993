import { bf16ToNumber, f16ToNumber, numberToBf16, numberToF16 } from "../../base/float.ts";
import { type FourBitType, fourBitLevels } from "../../base/four-bit.ts";
import { codeScale } from "./choose.ts";

function scalesOf(type: FourBitType) {
  return {
    f16: codeScale(fourBitLevels[type], (x) => f16ToNumber(numberToF16(x))),
    bf16: codeScale(fourBitLevels[type], (x) => bf16ToNumber(numberToBf16(x))),
  };
}

/** The factors of codeScale for both types and both 16-bit floats. */
export const levelScales: Readonly<Record<FourBitType, { readonly f16: number; readonly bf16: number }>> = {
  nf4: scalesOf("nf4"),
  fp4: scalesOf("fp4"),
};
