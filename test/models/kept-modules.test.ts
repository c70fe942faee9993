import { describe, expect, test } from "vitest";
import { float16 } from "../../src/base/dtype.ts";
import { ArgumentError } from "../../src/base/errors.ts";
import type { StoredWeight } from "../../src/formats/stored/stored-weights.ts";
import { keptProjections, skippedModules } from "../../src/models/export/modules.ts";

const weight = (name: string) => ({ kind: "plain", name, shape: [2, 2], dtype: float16 }) as unknown as StoredWeight;
const layers = [0, 1, 10].flatMap((layer) =>
  ["self_attn.q_proj", "self_attn.o_proj", "mlp.gate", "mlp.experts.0.up_proj", "mlp.experts.1.up_proj"].map(
    (module) => `model.layers.${layer}.${module}.weight`,
  ),
);
const weights = ["model.embed_tokens.weight", "lm_head.weight", ...layers].map(weight);

describe("modules that are kept", () => {
  test.each([
    [["experts"], 6],
    [["layers.1"], 4], // not layer 10
    [["model.layers.1.self_attn.q_proj"], 1],
    [["layers.*.self_attn"], 6],
    [["q_proj", "o_proj"], 6],
    [["experts.0.up_proj"], 3],
    [["*"], 12],
    [[], 0],
  ])("%o are %i projections", (patterns, count) => {
    expect(keptProjections(weights, patterns).size).toBe(count);
  });

  test.each(["expert", "_proj", "layers.2", "lm_head", "mlp.gate", ""])(
    '"%s" is refused, which names none',
    (pattern) => {
      expect(() => keptProjections(weights, ["experts", pattern])).toThrow(ArgumentError);
    },
  );

  test("all experts of a layer are one name, some are their own", () => {
    const quantizedBut = (patterns: readonly string[]) => {
      const kept = keptProjections(weights, patterns);
      return layers.filter((name) => !kept.has(name) && !name.endsWith("mlp.gate.weight"));
    };
    const gates = ["model.layers.0.mlp.gate", "model.layers.1.mlp.gate", "model.layers.10.mlp.gate"];
    expect(skippedModules(weights, quantizedBut(["layers.1.mlp.experts"])).sort()).toEqual(
      [...gates, "model.layers.1.mlp.experts"].sort(),
    );
    expect(skippedModules(weights, quantizedBut(["layers.1.mlp.experts.0"])).sort()).toEqual(
      [...gates, "model.layers.1.mlp.experts.0.up_proj"].sort(),
    );
  });
});
