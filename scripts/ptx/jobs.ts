import * as families from "../../src/kernels/families.ts";
import type { KernelSpec, Target } from "../../src/kernels/spec.ts";
import { variantSymbol } from "../../src/kernels/spec.ts";
import { builtTargets } from "../../src/kernels/target.ts";

/** One PTX file to build. */
export interface Job {
  readonly spec: KernelSpec;
  readonly variant: Readonly<Record<string, string>>;
  readonly symbol: string;
  readonly target: Target;
}

function isSpec(value: unknown): value is KernelSpec {
  return typeof value === "object" && value !== null && "family" in value && "axes" in value && "source" in value;
}

/** Every specification that a module of src/kernels/families.ts exports. Throws when two share a family. */
export function allSpecs(): KernelSpec[] {
  const byFamily = new Map<string, KernelSpec>();
  for (const module of Object.values(families)) {
    for (const spec of (Object.values(module) as unknown[]).filter(isSpec)) {
      const other = byFamily.get(spec.family);
      if (other && other !== spec) throw new Error(`two specifications are named "${spec.family}"; names must differ`);
      byFamily.set(spec.family, spec);
    }
  }
  return [...byFamily.values()].sort((a, b) => (a.family < b.family ? -1 : 1));
}

/** Every combination of axis values that is not pruned. */
export function variantsOf(spec: KernelSpec): Record<string, string>[] {
  let variants: Record<string, string>[] = [{}];
  for (const [axis, values] of Object.entries(spec.axes)) {
    variants = variants.flatMap((v) => values.map((value) => ({ ...v, [axis]: value })));
  }
  return variants.filter((v) => spec.prune?.(v) === undefined);
}

export function jobsOf(spec: KernelSpec): Job[] {
  return variantsOf(spec).flatMap((variant) =>
    builtTargets(spec, variant).map((target) => ({ spec, variant, symbol: variantSymbol(spec, variant), target })),
  );
}
