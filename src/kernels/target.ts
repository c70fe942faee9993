import { ArgumentError, UnsupportedError } from "../base/errors.ts";
import { type KernelSpec, type Target, targets, type VariantAxes, type VariantOf, variantSymbol } from "./spec.ts";

/** The number that capabilities and LLCUDA_TARGET use: 90 for sm_90 and for sm_90a. */
export function targetNumber(target: Target): number {
  return Number.parseInt(target.slice("sm_".length), 10);
}

/**
 * The targets whose PTX a GPU may run, newest first. The driver compiles older PTX for a newer GPU, but sm_90a only for
 * capability 9.0 exactly. `forced` (LLCUDA_TARGET) leaves out what is newer than it.
 * `capability` is times ten: 90 for 9.0. Throws ArgumentError for a name that is no target or that the GPU cannot run.
 */
export function runnableTargets(capability: number, forced?: string): readonly Target[] {
  const all = targets.filter((t) => (t === "sm_90a" ? capability === 90 : targetNumber(t) <= capability)).reverse();
  if (forced === undefined) return all;
  const at = all.indexOf(forced as Target);
  if (at >= 0) return all.slice(at);
  const known = (targets as readonly string[]).includes(forced);
  throw new ArgumentError(
    `LLCUDA_TARGET: ${
      known
        ? `a GPU of capability ${(capability / 10).toFixed(1)} cannot run "${forced}"`
        : `"${forced}" is no PTX target of llcuda`
    }; it can run ${[...all].reverse().join(", ") || "none of them"}`,
  );
}

/** The targets that one variant is built for. */
export function builtTargets<X extends VariantAxes>(
  spec: Pick<KernelSpec<never, X>, "targets">,
  variant: VariantOf<X>,
): readonly Target[] {
  return typeof spec.targets === "function" ? spec.targets(variant) : spec.targets;
}

/** The newest target that is both built and runnable. Throws UnsupportedError when there is none. */
export function pickTarget<X extends VariantAxes>(
  spec: Pick<KernelSpec<never, X>, "family" | "axes" | "targets">,
  variant: VariantOf<X>,
  runnable: readonly Target[],
): Target {
  const built = builtTargets(spec, variant);
  const found = runnable.find((t) => built.includes(t));
  if (found) return found;
  throw new UnsupportedError(
    `kernel ${variantSymbol(spec, variant)}: it is built for ${built.join(", ")}, and this device or LLCUDA_TARGET allows ${
      runnable.length ? `${runnable[0]} at most` : "none of llcuda's targets"
    }`,
  );
}
