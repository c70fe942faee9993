import { ggmlBytes, ggmlType } from "../../base/ggml.ts";
import { ptrAdd } from "../../driver/api.ts";
import { nestedBlockSize } from "../nf4/levels.ts";
import type { QuantData } from "./params.ts";

/** Whether a weight of `elements` elements ends with a block, of nested absmax too: another one may then begin behind it. */
export function endsWithBlock(data: QuantData, elements: number): boolean {
  if (data.kind === "ggml") return elements % ggmlType(data.type).blockElements === 0;
  return elements % (data.nested ? data.blockSize * nestedBlockSize : data.blockSize) === 0;
}

/** The weight from row `first` on, of rows of `k` elements; the rows before it end with a block. */
export function rowsFrom(data: QuantData, k: number, first: number): QuantData {
  const elements = first * k;
  if (data.kind === "ggml") return { ...data, blocks: ptrAdd(data.blocks, ggmlBytes(ggmlType(data.type), elements)) };
  const { nested, blockSize } = data;
  const blocks = elements / blockSize;
  return {
    ...data,
    packed: ptrAdd(data.packed, elements / 2),
    absmax: ptrAdd(data.absmax, blocks * (nested ? 1 : 4)),
    ...(nested && { nested: { ...nested, absmax: ptrAdd(nested.absmax, (blocks / nestedBlockSize) * 4) } }),
  };
}
