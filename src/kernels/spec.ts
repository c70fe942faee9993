/**
 * One specification per kernel family drives both the PTX build (scripts/build-ptx.ts) and the launch, so a name or a
 * variant cannot exist on one side only.
 */

/** PTX targets that llcuda ships, oldest first. sm_90a is not forward compatible: only a GPU of capability 9.0 runs it. */
export const targets = ["sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_90a"] as const;
export type Target = (typeof targets)[number];

/**
 * Parameter types of a kernel, in C terms. `tensorMap` is a CUtensorMap by value (128 bytes, 64-byte aligned). `dims` is
 * `struct Dims` of common/dims.cuh by value: up to eight whole numbers as i64, sizes or strides of a view.
 */
export type ArgType = "ptr" | "i32" | "u32" | "i64" | "u64" | "f32" | "tensorMap" | "dims";
export type ArgSpec = Readonly<Record<string, ArgType>>;

export interface KernelSpec<Args extends ArgSpec = ArgSpec, Axes extends VariantAxes = VariantAxes> {
  /** Snake case; the prefix of every symbol: `rms_norm`. */
  readonly family: string;
  /** The `.cu` file, relative to src/kernels: `rms-norm/rms-norm.cu`. */
  readonly source: string;
  /** Parameters in C order. */
  readonly args: Args;
  /**
   * Axes whose values multiply to variants. A variant's symbol is the family and its values joined by `_`, in axis
   * order: `rms_norm_bf16`. Each variant is one PTX file, compiled with -DVARIANT_<AXIS>=<value> for every axis
   * (`VARIANT_DTYPE=bf16`) and -DLLCUDA_TARGET=<60…90>, and must define the one `extern "C" __global__` of that symbol
   * through the KERNEL_NAME macro.
   */
  readonly axes: Axes;
  /** Combinations that are not built, each with its reason; return undefined to build. */
  readonly prune?: (variant: VariantOf<Axes>) => string | undefined;
  /** The targets that are built; the loader takes the newest one that the device (or LLCUDA_TARGET) can run. */
  readonly targets: readonly Target[] | ((variant: VariantOf<Axes>) => readonly Target[]);
}

export type VariantAxes = Readonly<Record<string, readonly string[]>>;
export type VariantOf<Axes extends VariantAxes> = { readonly [K in keyof Axes]: Axes[K][number] };

export type ArgValue<T extends ArgType> = T extends "ptr" | "i64" | "u64"
  ? bigint
  : T extends "tensorMap"
    ? Uint8Array
    : T extends "dims"
      ? readonly number[]
      : number;
export type ArgValues<Args extends ArgSpec> = { readonly [K in keyof Args]: ArgValue<Args[K]> };

/** Identity with inference: `export const rmsNormKernel = defineKernel({ … })`. */
export function defineKernel<const Args extends ArgSpec, const Axes extends VariantAxes>(
  spec: KernelSpec<Args, Axes>,
): KernelSpec<Args, Axes> {
  return spec;
}

export function variantSymbol(
  spec: { family: string; axes: VariantAxes },
  variant: Readonly<Record<string, string>>,
): string {
  return [spec.family, ...Object.keys(spec.axes).map((axis) => variant[axis])].join("_");
}
