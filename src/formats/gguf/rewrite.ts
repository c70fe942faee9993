import type { DType } from "../../base/dtype.ts";
import { decodeArray, encodeArray } from "../../base/element.ts";

/** How the bytes of a tensor in a GGUF file become those of the checkpoint: unit by unit, none depending on another. */
export interface Rewrite {
  readonly unitBytes: number;
  /** Rewrites whole units. */
  apply(units: Uint8Array): Uint8Array;
}

/**
 * Puts the rows of a query or key projection back in the checkpoint's order, a head at a time. The file pairs dimensions i and
 * i + D/2, which rotate together, as rows 2i and 2i + 1. Rows move whole, so blocks of quantized weights stay as they are.
 */
export function deinterleaveRows(headDim: number, rowBytes: number): Rewrite {
  const half = headDim / 2;
  return reorderRows(headDim, rowBytes, (row) => 2 * (row % half) + (row < half ? 0 : 1));
}

/** The reverse: rows of queries or keys as GGUF files of architecture `llama` hold them. */
export function interleaveRows(headDim: number, rowBytes: number): Rewrite {
  return reorderRows(headDim, rowBytes, (stored) => Math.floor(stored / 2) + (stored % 2) * (headDim / 2));
}

/** `from` says which row of a head comes to a place. */
function reorderRows(headDim: number, rowBytes: number, from: (row: number) => number): Rewrite {
  const unitBytes = headDim * rowBytes;
  return {
    unitBytes,
    apply: (units) => {
      const out = new Uint8Array(units.length);
      for (let head = 0; head < units.length; head += unitBytes) {
        for (let row = 0; row < headDim; row++) {
          const at = head + from(row) * rowBytes;
          out.set(units.subarray(at, at + rowBytes), head + row * rowBytes);
        }
      }
      return out;
    },
  };
}

/**
 * Takes the one from the weights of a norm, which the model adds again. In float32, as files hold norms, both are exact for weights that
 * were bfloat16 of at least 2^-16.
 */
export function subtractOne(dtype: DType): Rewrite {
  return {
    unitBytes: dtype.bytes,
    apply: (units) => {
      const values = decodeArray(dtype, dtype.view(units)).map((weight) => weight - 1);
      const stored = encodeArray(dtype, values);
      return new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength);
    },
  };
}
