import { int32, int64 } from "../../base/dtype.ts";
import { DTypeError, ShapeError } from "../../base/errors.ts";
import { embedding as launchEmbedding } from "../../kernels/embedding/embedding.ts";
import { produce } from "../create.ts";
import type { Tensor } from "../tensor.ts";
import { describe, floatOnly, sameDevice } from "./check.ts";
import { cast, contiguous } from "./copy.ts";

export function embedding(table: Tensor, ids: Tensor): Tensor {
  const dtype = floatOnly("embedding", table);
  sameDevice("embedding", table, ids);
  const [vocab, cols] = table.shape;
  if (table.rank !== 2 || vocab === undefined || cols === undefined) {
    throw new ShapeError(`embedding: the table must be [V, C], got ${describe(table)} for ids ${describe(ids)}`);
  }
  if (ids.dtype !== int32 && ids.dtype !== int64) {
    throw new DTypeError(`embedding: ids must be int32 or int64, got ${describe(ids)} for table ${describe(table)}`);
  }
  using rows = contiguous(table);
  using wide = cast(ids, int32);
  using index = contiguous(wide);
  return produce(table.device, [...ids.shape, cols], dtype, (out) =>
    launchEmbedding(table.device.stream, {
      out: out.ptr,
      table: rows.ptr,
      ids: index.ptr,
      tokens: ids.size,
      cols,
      vocab,
      dtype,
    }),
  );
}
