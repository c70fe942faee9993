const view = new DataView(new ArrayBuffer(8));

/** `0x1F`, `0b101`, `12`, each with or without a final U. */
export function integerValue(text: string): bigint {
  return BigInt(text.endsWith("U") ? text.slice(0, -1) : text);
}

/** `0f3F800000`, `0d3FF0000000000000`, `1.5`. */
export function floatBits(text: string): { bits: bigint; width: 32 | 64 } {
  if (/^0[fF]/.test(text)) return { bits: BigInt(`0x${text.slice(2)}`), width: 32 };
  if (/^0[dD]/.test(text)) return { bits: BigInt(`0x${text.slice(2)}`), width: 64 };
  view.setFloat64(0, Number(text));
  return { bits: view.getBigUint64(0), width: 64 };
}

export function bitsToFloat(bits: bigint, width: 32 | 64): number {
  if (width === 32) {
    view.setUint32(0, Number(BigInt.asUintN(32, bits)));
    return view.getFloat32(0);
  }
  view.setBigUint64(0, BigInt.asUintN(64, bits));
  return view.getFloat64(0);
}

export function floatToBits(value: number, width: 32 | 64): bigint {
  if (width === 32) {
    view.setFloat32(0, value);
    return BigInt(view.getUint32(0));
  }
  view.setFloat64(0, value);
  return view.getBigUint64(0);
}
