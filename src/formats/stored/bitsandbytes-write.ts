import type { DType } from "../../base/dtype.ts";
import { type FourBitType, fourBitLevels } from "../../base/four-bit.ts";
import { elementCount } from "../../base/shape.ts";
import type { TensorHead } from "../safetensors/layout.ts";

/** What a 4-bit weight is, before its codes are known. */
export interface FourBitPlan {
  /** Of the weight: `….q_proj.weight`. */
  readonly name: string;
  readonly type: FourBitType;
  readonly shape: readonly number[];
  /** What it was before, and dequantizes to. */
  readonly dtype: DType;
  readonly blockSize: number;
  /** Double quantization; its offset is what all absmax were lowered by. */
  readonly nested: { readonly blockSize: number; readonly offset: number } | undefined;
}

/** The computed parts of a 4-bit weight on the host. */
export interface FourBitBytes {
  readonly packed: Uint8Array;
  /** float32, or uint8 codes under double quantization. */
  readonly absmax: Float32Array | Uint8Array;
  readonly nested?: { readonly absmax: Float32Array; readonly code: Float32Array };
}

/** The tensors that stand for a weight in a checkpoint, as bitsandbytes names and shapes them. */
export function fourBitHeads(plan: FourBitPlan): TensorHead[] {
  const { name, type, shape, blockSize, nested } = plan;
  const elements = elementCount(shape);
  const blocks = Math.ceil(elements / blockSize);
  const head = (suffix: string, dtype: "float32" | "uint8", ...of: number[]): TensorHead => ({
    name: `${name}${suffix}`,
    dtype,
    shape: of,
  });
  return [
    head("", "uint8", Math.ceil(elements / 2), 1),
    head(".absmax", nested ? "uint8" : "float32", blocks),
    head(".quant_map", "float32", fourBitLevels[type].length),
    ...(nested
      ? [
          head(".nested_absmax", "float32", Math.ceil(blocks / nested.blockSize)),
          head(".nested_quant_map", "float32", 256),
        ]
      : []),
    head(`.quant_state.bitsandbytes__${type}`, "uint8", encodeState(plan).length),
  ];
}

/** What goes into them, by name. */
export function fourBitData(plan: FourBitPlan, bytes: FourBitBytes): [name: string, data: ArrayBufferView][] {
  const { name, type } = plan;
  return [
    [name, bytes.packed],
    [`${name}.absmax`, bytes.absmax],
    [`${name}.quant_map`, fourBitLevels[type]],
    ...(bytes.nested
      ? ([
          [`${name}.nested_absmax`, bytes.nested.absmax],
          [`${name}.nested_quant_map`, bytes.nested.code],
        ] as [string, ArrayBufferView][])
      : []),
    [`${name}.quant_state.bitsandbytes__${type}`, encodeState(plan)],
  ];
}

/** JSON as Python's json module spells it, so that the bytes are those that bitsandbytes writes. */
function encodeState({ type, blockSize, dtype, shape, nested }: FourBitPlan): Uint8Array {
  const fields = [
    `"quant_type": "${type}"`,
    `"blocksize": ${blockSize}`,
    `"dtype": "${dtype.name}"`,
    `"shape": [${shape.join(", ")}]`,
    ...(nested
      ? [
          `"nested_blocksize": ${nested.blockSize}`,
          `"nested_dtype": "float32"`,
          `"nested_offset": ${pythonFloat(nested.offset)}`,
        ]
      : []),
  ];
  return new TextEncoder().encode(`{${fields.join(", ")}}`);
}

/** A float64 as Python's repr: the shortest digits, as JavaScript's, but with an exponent below 1e-4 and from 1e16 on. */
export function pythonFloat(value: number): string {
  const magnitude = Math.abs(value);
  if (magnitude !== 0 && (magnitude < 1e-4 || magnitude >= 1e16)) {
    return value.toExponential().replace(/e([+-])(\d)$/, "e$10$2");
  }
  const text = Object.is(value, -0) ? "-0" : String(value);
  return text.includes(".") ? text : `${text}.0`;
}
