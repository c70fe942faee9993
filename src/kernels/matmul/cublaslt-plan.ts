import type { DevicePtr } from "../../driver/api.ts";
import {
  CUBLAS_OP,
  CUBLAS_STATUS_NOT_SUPPORTED,
  CUDA_R,
  LT_DESC,
  LT_EPILOGUE,
  LT_HEURISTIC,
  LT_LAYOUT,
  LT_PREFERENCE,
  LT_REDUCTION_COMPUTE_TYPE,
} from "../../ffi/cublaslt.ts";
import type { FfiEngine, NativeBlock } from "../../ffi/engine.ts";
import type { Handle } from "../../ffi/handles.ts";
import { type CublasLtLibrary, cublasFailed } from "./cublaslt-library.ts";

/** Everything that the choice of an algorithm depends on; row-major, in elements, as MatmulParams. */
export interface LtProblem {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly input: "f32" | "f16" | "bf16";
  readonly output: "f32" | "f16" | "bf16";
  readonly compute: number;
  readonly transposeA: boolean;
  readonly transposeB: boolean;
  readonly lda: number;
  readonly ldb: number;
  readonly ldc: number;
  readonly ldd: number;
  readonly batch: number;
  readonly strideA: number;
  readonly strideB: number;
  readonly strideC: number;
  readonly strideD: number;
  readonly bias: boolean;
  /** Of the addresses of B, A, C, D and bias: the largest power of two, up to 256, that divides each. */
  readonly alignments: readonly number[];
}

type Layout = Handle<"cublasLtMatrixLayout_t">;

/** A problem, prepared: descriptors and the algorithm that the heuristic chose. */
export interface Plan {
  readonly desc: Handle<"cublasLtMatmulDesc_t">;
  readonly layouts: { readonly a: Layout; readonly b: Layout; readonly c: Layout; readonly d: Layout };
  readonly algorithm: NativeBlock;
  setBias(bias: DevicePtr): void;
  dispose(): void;
}

/** Prompts come in any length, so plans are kept up to this number and the oldest ones dropped. */
const maxPlans = 1024;

/** Makes plans, and keeps them by problem. A problem that cuBLASLt has no algorithm for is remembered as such. */
export class PlanMaker {
  readonly #lt: CublasLtLibrary;
  readonly #handle: Handle<"cublasLtHandle_t">;
  readonly #engine: FfiEngine;
  readonly #plans = new Map<string, Plan | undefined>();
  /** One attribute's value, or the number of results. */
  readonly #value: NativeBlock;
  readonly #view: DataView;

  constructor(lt: CublasLtLibrary, engine: FfiEngine, handle: Handle<"cublasLtHandle_t">) {
    this.#lt = lt;
    this.#engine = engine;
    this.#handle = handle;
    this.#value = engine.alloc(8);
    this.#view = new DataView(this.#value.buffer);
  }

  plan(problem: LtProblem, workspaceBytes: number): Plan | undefined {
    const key = `${Object.values(problem).join()},${workspaceBytes}`;
    if (this.#plans.has(key)) return this.#plans.get(key);
    if (this.#plans.size >= maxPlans) this.#dropOldest();
    const plan = this.#make(problem, workspaceBytes);
    this.#plans.set(key, plan);
    return plan;
  }

  dispose(): void {
    for (const plan of this.#plans.values()) plan?.dispose();
    this.#plans.clear();
  }

  #dropOldest(): void {
    for (const [key, plan] of this.#plans) {
      // A launch has taken what it needs from descriptors when it returns, so this is safe at any time.
      plan?.dispose();
      this.#plans.delete(key);
      return;
    }
  }

  #make(p: LtProblem, workspaceBytes: number): Plan | undefined {
    const { calls } = this.#lt;
    const desc = calls.descCreate(p.compute, CUDA_R.f32);
    const set = (attribute: number, bytes: number): void => calls.descSet(desc, attribute, this.#value.address, bytes);
    // cuBLASLt is column-major, so a row-major matrix is its transpose, B comes first, and rows are columns.
    set(LT_DESC.transA, this.#i32(p.transposeB ? CUBLAS_OP.transpose : CUBLAS_OP.none));
    set(LT_DESC.transB, this.#i32(p.transposeA ? CUBLAS_OP.transpose : CUBLAS_OP.none));
    set(LT_DESC.epilogue, this.#i32(p.bias ? LT_EPILOGUE.bias : LT_EPILOGUE.default));
    // The heuristic does not read the bias but looks at its address; this one has no more than its alignment.
    if (p.bias) set(LT_DESC.biasPointer, this.#u64(BigInt(p.alignments[4]!)));
    const [aRows, aColumns] = p.transposeA ? [p.m, p.k] : [p.k, p.m];
    const [bRows, bColumns] = p.transposeB ? [p.k, p.n] : [p.n, p.k];
    const layouts = {
      a: this.#layout(p.input, aRows, aColumns, p.lda, p.batch, p.strideA),
      b: this.#layout(p.input, bRows, bColumns, p.ldb, p.batch, p.strideB),
      c: this.#layout(p.output, p.n, p.m, p.ldc, p.batch, p.strideC),
      d: this.#layout(p.output, p.n, p.m, p.ldd, p.batch, p.strideD),
    };
    const dispose = (): void => {
      for (const layout of Object.values(layouts)) calls.layoutDestroy(layout);
      calls.descDestroy(desc);
    };
    let algorithm: NativeBlock | undefined;
    try {
      algorithm = this.#choose(desc, layouts, p.alignments, workspaceBytes);
    } finally {
      if (!algorithm) dispose();
    }
    if (!algorithm) return undefined;
    return { desc, layouts, algorithm, dispose, setBias: (bias) => set(LT_DESC.biasPointer, this.#u64(bias)) };
  }

  #layout(type: keyof typeof CUDA_R, rows: number, columns: number, ld: number, batch: number, stride: number): Layout {
    const { calls } = this.#lt;
    const layout = calls.layoutCreate(CUDA_R[type], rows, columns, ld);
    if (batch > 1) {
      calls.layoutSet(layout, LT_LAYOUT.batchCount, this.#value.address, this.#i32(batch));
      calls.layoutSet(layout, LT_LAYOUT.stridedBatchOffset, this.#value.address, this.#u64(BigInt(stride)));
    }
    return layout;
  }

  /** Asks the heuristic for its best algorithm within the workspace; undefined when there is none. */
  #choose(
    desc: Plan["desc"],
    layouts: Plan["layouts"],
    alignments: readonly number[],
    workspaceBytes: number,
  ): NativeBlock | undefined {
    const { calls } = this.#lt;
    const preference = calls.preferenceCreate();
    try {
      const set = (attribute: number, bytes: number): void =>
        calls.preferenceSet(preference, attribute, this.#value.address, bytes);
      set(LT_PREFERENCE.maxWorkspaceBytes, this.#u64(BigInt(workspaceBytes)));
      set(LT_PREFERENCE.reductionSchemeMask, this.#i32(LT_REDUCTION_COMPUTE_TYPE));
      const attributes = ["alignmentA", "alignmentB", "alignmentC", "alignmentD"] as const;
      for (const [i, name] of attributes.entries()) set(LT_PREFERENCE[name], this.#i32(alignments[i]!));
      const result = this.#engine.alloc(LT_HEURISTIC.bytes);
      const { a, b, c, d } = layouts;
      const found = this.#value.address;
      this.#i32(0);
      const status = calls.algoGetHeuristic(this.#handle, desc, b, a, c, d, preference, 1, result.address, found);
      if (status === CUBLAS_STATUS_NOT_SUPPORTED) return undefined;
      if (status !== 0) return cublasFailed("cublasLtMatmulAlgoGetHeuristic", status);
      if (this.#view.getInt32(0, true) === 0) return undefined;
      return new DataView(result.buffer).getInt32(LT_HEURISTIC.state, true) === 0 ? result : undefined;
    } finally {
      calls.preferenceDestroy(preference);
    }
  }

  /** Puts a value where attributes are read from, and returns its size. */
  #i32(value: number): number {
    this.#view.setInt32(0, value, true);
    return 4;
  }

  #u64(value: bigint): number {
    this.#view.setBigUint64(0, value, true);
    return 8;
  }
}
