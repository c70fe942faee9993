import { expect, test } from "vitest";
import { defineKernel } from "../../src/kernels/spec.ts";
import { pickTarget, runnableTargets } from "../../src/kernels/target.ts";

const kernel = (targets: readonly ("sm_60" | "sm_80" | "sm_90" | "sm_90a")[]) =>
  defineKernel({ family: "k", source: "k.cu", args: {}, axes: { dtype: ["f16", "bf16"] }, targets });

test.each([
  [60, ["sm_60"]],
  [61, ["sm_60"]],
  [72, ["sm_70", "sm_60"]],
  [87, ["sm_86", "sm_80", "sm_75", "sm_70", "sm_60"]],
  [90, ["sm_90a", "sm_90", "sm_89", "sm_86", "sm_80", "sm_75", "sm_70", "sm_60"]],
  [100, ["sm_90", "sm_89", "sm_86", "sm_80", "sm_75", "sm_70", "sm_60"]],
  [50, []],
])("capability %i runs, newest first", (capability, expected) => {
  expect([...runnableTargets(capability as number)]).toEqual(expected);
});

test("a forced target leaves out newer ones", () => {
  expect([...runnableTargets(90, "sm_75")]).toEqual(["sm_75", "sm_70", "sm_60"]);
  expect(runnableTargets(90, "sm_90").includes("sm_90a")).toBe(false);
  expect(runnableTargets(90, "sm_90a")[0]).toBe("sm_90a");
});

test("a forced target that the GPU cannot run, or that is none, is refused with the list", () => {
  expect(() => runnableTargets(75, "sm_80")).toThrow(
    /capability 7\.5 cannot run "sm_80"; it can run sm_60, sm_70, sm_75/,
  );
  expect(() => runnableTargets(100, "sm_90a")).toThrow(/capability 10\.0 cannot run "sm_90a"/);
  expect(() => runnableTargets(80, "sm_99")).toThrow(/"sm_99" is no PTX target of llcuda/);
});

test("the newest built target is taken", () => {
  const spec = kernel(["sm_60", "sm_80", "sm_90", "sm_90a"]);
  const pick = (capability: number, forced?: string) =>
    pickTarget(spec, { dtype: "f16" }, runnableTargets(capability, forced));
  expect(pick(90)).toBe("sm_90a");
  expect(pick(120)).toBe("sm_90");
  expect(pick(89)).toBe("sm_80");
  expect(pick(90, "sm_75")).toBe("sm_60");
});

test("a kernel that has nothing old enough says so", () => {
  expect(() => pickTarget(kernel(["sm_80"]), { dtype: "bf16" }, runnableTargets(90, "sm_75"))).toThrow(
    /kernel k_bf16: it is built for sm_80, and this device or LLCUDA_TARGET allows sm_75 at most/,
  );
  expect(() => pickTarget(kernel(["sm_60"]), { dtype: "bf16" }, runnableTargets(50))).toThrow(
    /none of llcuda's targets/,
  );
});
