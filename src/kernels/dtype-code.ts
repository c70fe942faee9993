import type { DType, DTypeName } from "../base/dtype.ts";

/** The codes by which kernels of common/dtype.cuh know types at run time. */
const codes: Record<DTypeName, number> = {
  float32: 0,
  float16: 1,
  bfloat16: 2,
  int32: 3,
  int64: 4,
  uint8: 5,
  bool: 6,
};

export function dtypeCode(dtype: DType): number {
  return codes[dtype.name];
}
