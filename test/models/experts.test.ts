import { describe, expect, test } from "vitest";
import { openDevice, registerDevices } from "../../src/driver/open.ts";
import { LanguageModel } from "../../src/engine/language-model.ts";
import { verifyCheckpoint, verifyModel } from "../../src/engine/verify.ts";
import { writeSafetensors } from "../../src/formats/safetensors/write.ts";
import { SimProvider } from "../../src/sim/provider.ts";
import { random } from "../support/numerics.ts";
import { type Values, Variant } from "./variant.ts";

registerDevices(new SimProvider());
const device = openDevice("sim:sm_80");
const load = (variant: Variant, options: object = {}) =>
  LanguageModel.fromPretrained(variant.directory, { device, dtype: "float32", ...options });

/** A router's weights: any will do where all experts are alike. */
function router(name: string, experts: number, cols: number): Values {
  return {
    name,
    shape: [experts, cols],
    data: Float32Array.from({ length: experts * cols }, (_, i) => Math.sin(i * i)),
  };
}

type Projection = "gate" | "up" | "down";
const projection = /^(model\.layers\.\d+\.)mlp\.(gate|up|down)_proj\.weight$/;

/** Every layer's feed-forward as `experts` equal experts, stored as `place` says. */
function asExperts(
  experts: number,
  prefix: string,
  place: (expert: number, which: Projection) => string,
): (tensors: readonly Values[]) => Values[] {
  return (tensors) =>
    tensors.flatMap((tensor) => {
      const match = projection.exec(tensor.name);
      if (!match) return [tensor];
      const [, layer, which] = match as unknown as [string, string, Projection];
      const copies = Array.from({ length: experts }, (_, e) => ({ ...tensor, name: layer + place(e, which) }));
      return which === "gate"
        ? [router(`${layer}${prefix}.gate.weight`, experts, tensor.shape[1]!), ...copies]
        : copies;
    });
}

const mixtralNames = { gate: "w1", up: "w3", down: "w2" } as const;
const asMixtral = (experts: number) =>
  asExperts(experts, "block_sparse_moe", (e, which) => `block_sparse_moe.experts.${e}.${mixtralNames[which]}.weight`);
const asQwen = (experts: number) => asExperts(experts, "mlp", (e, which) => `mlp.experts.${e}.${which}_proj.weight`);

const mixtral = (experts: number, chosen: number) => ({
  architectures: ["MixtralForCausalLM"],
  model_type: "mixtral",
  num_local_experts: experts,
  num_experts_per_tok: chosen,
});
const qwen3Moe = (config: Record<string, unknown>, changes: object) => ({
  ...config,
  architectures: ["Qwen3MoeForCausalLM"],
  model_type: "qwen3_moe",
  moe_intermediate_size: config.intermediate_size,
  num_experts_per_tok: 3,
  norm_topk_prob: true,
  ...changes,
});

// Weights of equal experts add up to one: such a mixture is the dense model, whose reference run is at hand.
describe("a mixture of equal experts is the dense model", () => {
  test.each([
    [5, 1],
    [8, 2],
    [3, 3],
  ])("Mixtral with %i experts, of which %i are chosen", async (experts, chosen) => {
    using variant = new Variant("mistral-sliding", mixtral(experts, chosen), asMixtral(experts));
    using model = await load(variant);
    expect(await verifyModel(model)).toMatchObject({ passed: true, greedyMatched: 16 });
  });

  test("Qwen3-MoE, with experts in every second layer", async () => {
    const rewrite = (tensors: readonly Values[]) => {
      const mixed = asQwen(6)(tensors);
      return mixed
        .filter(({ name }) => !/layers\.\d*[02468]\.mlp\.(experts|gate\.)/.test(name))
        .concat(tensors.filter(({ name }) => /layers\.\d*[02468]\.mlp\./.test(name)));
    };
    using variant = new Variant(
      "qwen3-qknorm",
      (config) => qwen3Moe(config, { num_experts: 6, decoder_sparse_step: 2 }),
      rewrite,
    );
    using model = await load(variant, { rotaryDtype: "bfloat16" });
    expect(await verifyModel(model)).toMatchObject({ passed: true, greedyMatched: 16 });
  });

  test("in the form that transformers 5 holds: all experts of a projection in one tensor", async () => {
    const [experts, shapes] = [4, new Map<string, Values>()];
    const rewrite = (tensors: readonly Values[]) =>
      tensors.flatMap((tensor): Values[] => {
        const match = projection.exec(tensor.name);
        if (!match) return [tensor];
        const [, layer, which] = match as unknown as [string, string, Projection];
        shapes.set(layer + which, tensor);
        const [gate, up, down] = ["gate", "up", "down"].map((name) => shapes.get(layer + name));
        if (!gate || !up || !down) return [];
        const repeat = (...parts: Values[]) =>
          Float32Array.from(Array.from({ length: experts }, () => parts.flatMap((part) => [...part.data])).flat());
        const [f, c] = gate.shape as [number, number];
        return [
          router(`${layer}mlp.gate.weight`, experts, c),
          { name: `${layer}mlp.experts.gate_up_proj`, shape: [experts, 2 * f, c], data: repeat(gate, up) },
          { name: `${layer}mlp.experts.down_proj`, shape: [experts, c, f], data: repeat(down) },
        ];
      });
    using variant = new Variant("mistral-sliding", mixtral(experts, 2), rewrite);
    using model = await load(variant);
    expect(await verifyModel(model)).toMatchObject({ passed: true, greedyMatched: 16 });
  });
});

describe("verifying 16 bits where experts are nearly equally probable", () => {
  /** A fifth of the router's weights: probabilities are then nearly even, so that every chosen expert counts. */
  const even = (tensors: readonly Values[]) =>
    tensors.map((t) => (t.name.endsWith("gate.weight") ? { ...t, data: t.data.map((w) => w / 5) } : t));

  /** A reference run as float32 gives it: a long prompt, so that some choices are close. */
  async function reference(variant: Variant): Promise<string> {
    using model = await load(variant);
    const draw = random(4);
    const ids = Array.from({ length: 150 }, () => Math.floor(160 * draw()));
    const greedy = [...ids];
    for (let n = 0; n < 3; n++) {
      using tensor = await model.logits(greedy);
      const last = (tensor.toArray() as Float32Array).slice(-160);
      greedy.push(last.indexOf(Math.max(...last)));
    }
    using tensor = await model.logits(ids);
    const file = `${variant.directory}/close.safetensors`;
    writeSafetensors(file, [
      { name: "input_ids", dtype: "int32", shape: [ids.length], data: Int32Array.from(ids) },
      { name: "greedy_ids", dtype: "int32", shape: [greedy.length], data: Int32Array.from(greedy) },
      { name: "logits", dtype: "float32", shape: tensor.shape, data: tensor.toArray() as Float32Array },
    ]);
    return file;
  }
  const verify = (variant: Variant, file: string, options: object) =>
    verifyCheckpoint((wanted) => load(variant, { ...options, ...wanted }), file);

  test("compares with float32's choices, and says how many differ", async () => {
    using variant = new Variant("mixtral-5x3", {}, even);
    const file = await reference(variant);
    const { verification, dtype } = await verify(variant, file, { dtype: "bfloat16" });
    expect(dtype).toBe("bfloat16");
    expect(verification.passed).toBe(true);
    const { choices, different, relativeL2 } = verification.experts!;
    expect(choices).toBe(2 * 153);
    expect(different).toBeGreaterThan(0);
    expect(different).toBeLessThan(choices / 20);
    expect(relativeL2).toBeLessThan(3e-2);
    // Where no choice is close, nothing of this is needed.
    using clear = new Variant("mixtral-5x3", {});
    const plain = await verify(clear, `${clear.directory}/expected.safetensors`, { dtype: "bfloat16" });
    expect([plain.verification.passed, plain.verification.experts]).toEqual([true, undefined]);
  });

  test("a run whose float32 is right and whose 16 bits are wrong fails all the same", async () => {
    using variant = new Variant("mixtral-5x3", {}, even);
    using broken = new Variant("mixtral-5x3", {}, (tensors) =>
      even(tensors).map((t) =>
        t.name.endsWith("experts.1.w2.weight") ? { ...t, data: t.data.map((w) => 1.2 * w) } : t,
      ),
    );
    const file = await reference(variant);
    const { verification } = await verifyCheckpoint(
      ({ dtype, ...wanted }) => load(dtype === "float32" ? variant : broken, { dtype: dtype ?? "bfloat16", ...wanted }),
      file,
    );
    expect(verification.passed).toBe(false);
    expect(verification.experts).toBeDefined();
    expect(verification.relativeL2).toBeGreaterThan(3e-2);
  });
});

describe("checkpoints that do not hold together", () => {
  const fails = async (stored: number, config: object, message: string | RegExp) => {
    using variant = new Variant("mistral-sliding", { ...mixtral(8, 2), ...config }, asMixtral(stored));
    await expect(load(variant)).rejects.toThrow(message);
  };
  test("another number of experts than the config says", async () => {
    const other =
      /tensor "model\.layers\.0\.block_sparse_moe\.gate\.weight" is \[\d, 64\], but the config calls for \[8, 64\]/;
    await fails(6, {}, other);
    await fails(9, {}, other);
  });
  test("experts missing, and experts too many, below a router that fits", async () => {
    const drop = (pattern: RegExp) => (tensors: readonly Values[]) =>
      asMixtral(8)(tensors).filter(({ name }) => !pattern.test(name));
    using missing = new Variant("mistral-sliding", mixtral(8, 2), drop(/layers\.1\.block_sparse_moe\.experts\.7\./));
    await expect(load(missing)).rejects.toThrow(
      /has no tensor "model\.layers\.1\.block_sparse_moe\.experts\.7\.w1\.weight"/,
    );
    const more = (tensors: readonly Values[]) =>
      asMixtral(9)(tensors).map((t) =>
        t.name.endsWith("gate.weight") ? { ...t, shape: [8, t.shape[1]!], data: t.data.slice(0, 8 * t.shape[1]!) } : t,
      );
    using extra = new Variant("mistral-sliding", mixtral(8, 2), more);
    await expect(load(extra)).rejects.toThrow(
      /holds tensors "model\.layers\.0\.block_sparse_moe\.experts\.8\..* that its config has no place for/,
    );
  });
  test("more choices than experts", async () => {
    await fails(
      8,
      { num_experts_per_tok: 9 },
      "num_experts_per_tok is 9, but there are only 8 experts; expected a number from 1 to 8",
    );
  });
});
