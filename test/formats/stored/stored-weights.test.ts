import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FormatError, UnsupportedError } from "../../../src/base/errors.ts";
import { fourBitLevels } from "../../../src/base/four-bit.ts";
import { openCheckpoint } from "../../../src/formats/safetensors/checkpoint.ts";
import { type TensorToWrite, writeCheckpoint } from "../../../src/formats/safetensors/write.ts";
import { refuseForeignWeights } from "../../../src/formats/stored/foreign.ts";
import { storedBytes, storedTypeName, storedWeights } from "../../../src/formats/stored/stored-weights.ts";
import type { WeightSource } from "../../../src/formats/weight-source.ts";
import { thrownBy } from "../support.ts";

let scratch = "";
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "llcuda-stored-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

let checkpoints = 0;
function checkpoint(tensors: readonly TensorToWrite[]): WeightSource {
  const directory = join(scratch, `c${checkpoints++}`);
  writeCheckpoint(directory, tensors);
  return openCheckpoint(directory);
}

const u8 = (name: string, count: number, data: ArrayBufferView = new Uint8Array(count)): TensorToWrite => ({
  name,
  dtype: "uint8",
  shape: [count],
  data,
});
const f32 = (name: string, data: Float32Array): TensorToWrite => ({
  name,
  dtype: "float32",
  shape: [data.length],
  data,
});
const json = (name: string, value: object | string) => {
  const bytes = new TextEncoder().encode(typeof value === "string" ? value : JSON.stringify(value));
  return u8(name, bytes.length, bytes);
};

const state = { quant_type: "nf4", blocksize: 64, dtype: "bfloat16", shape: [10, 33] };
const nestedState = { ...state, nested_blocksize: 256, nested_dtype: "float32", nested_offset: 0.25 };

/** The tensors of one weight "w.weight" [10, 33]: 165 bytes in 6 blocks. */
function plainParts(): TensorToWrite[] {
  return [
    { name: "w.weight", dtype: "uint8", shape: [165, 1], data: new Uint8Array(165) },
    f32("w.weight.absmax", new Float32Array(6)),
    f32("w.weight.quant_map", fourBitLevels.nf4),
    json("w.weight.quant_state.bitsandbytes__nf4", state),
  ];
}

function nestedParts(): TensorToWrite[] {
  return [
    { name: "w.weight", dtype: "uint8", shape: [165, 1], data: new Uint8Array(165) },
    u8("w.weight.absmax", 6),
    f32("w.weight.quant_map", fourBitLevels.nf4),
    f32("w.weight.nested_absmax", new Float32Array(1)),
    f32("w.weight.nested_quant_map", new Float32Array(256)),
    json("w.weight.quant_state.bitsandbytes__nf4", nestedState),
  ];
}

/** The parts with one of them replaced, or taken away. */
function changed(parts: readonly TensorToWrite[], suffix: string, to?: TensorToWrite): TensorToWrite[] {
  const at = parts.findIndex((part) => part.name === `w.weight${suffix}`);
  if (at < 0) throw new Error(`there is no part ${suffix}`);
  return parts.flatMap((part, i) => (i !== at ? [part] : to ? [to] : []));
}

describe("4-bit weights of bitsandbytes", () => {
  test("plain: one weight that swallows its companions, beside plain ones", () => {
    using source = checkpoint([...plainParts(), f32("norm.weight", new Float32Array(33))]);
    const weights = storedWeights(source);
    expect([...weights.keys()].sort()).toEqual(["norm.weight", "w.weight"]);
    const weight = weights.get("w.weight")!;
    expect(weight).toMatchObject({ kind: "bnb4", type: "nf4", shape: [10, 33], blockSize: 64, nested: undefined });
    expect(weight.kind === "bnb4" && weight.dtype.name).toBe("bfloat16");
    expect(storedTypeName(weight)).toBe("nf4");
    expect(storedBytes(weight)).toBe(165 + 6 * 4);
    expect(storedTypeName(weights.get("norm.weight")!)).toBe("float32");
  });

  test("double quantization", () => {
    using source = checkpoint(nestedParts());
    const weight = storedWeights(source).get("w.weight")!;
    expect(weight).toMatchObject({ kind: "bnb4", nested: { blockSize: 256, offset: 0.25 } });
    expect(storedTypeName(weight)).toBe("nf4 (double quantization)");
    expect(storedBytes(weight)).toBe(165 + 6 + 4 + 256 * 4);
  });

  test("fp4, and bytes stored as another dtype", () => {
    const parts = changed(plainParts(), ".quant_map", f32("w.weight.quant_map", fourBitLevels.fp4))
      .filter((part) => !part.name.includes("quant_state"))
      .concat(json("w.weight.quant_state.bitsandbytes__fp4", { ...state, quant_type: "fp4", shape: [10, 32] }));
    const stored: TensorToWrite = { name: "w.weight", dtype: "bfloat16", shape: [80, 1], data: new Uint16Array(80) };
    const sized = changed(changed(parts, "", stored), ".absmax", f32("w.weight.absmax", new Float32Array(5)));
    using source = checkpoint(sized);
    expect(storedTypeName(storedWeights(source).get("w.weight")!)).toBe("fp4");
  });

  test.each<[string, () => TensorToWrite[], RegExp]>([
    ["no weight", () => changed(plainParts(), ""), /there is no "w.weight", though w.weight has a bitsandbytes/],
    ["no absmax", () => changed(plainParts(), ".absmax"), /there is no "w.weight.absmax"/],
    ["no levels", () => changed(plainParts(), ".quant_map"), /there is no "w.weight.quant_map"/],
    ["no nested absmax", () => changed(nestedParts(), ".nested_absmax"), /there is no "w.weight.nested_absmax"/],
    [
      "too few bytes",
      () => changed(plainParts(), "", u8("w.weight", 164)),
      /w.weight holds 164 bytes \(U8\); \[10, 33\] in 4 bits needs 165/,
    ],
    [
      "too few blocks",
      () => changed(plainParts(), ".absmax", f32("w.weight.absmax", new Float32Array(5))),
      /absmax is F32 \[5\]; a nf4 weight \[10, 33\] with blocks of 64 needs 6 elements of F32/,
    ],
    [
      "absmax of another type",
      () => changed(plainParts(), ".absmax", u8("w.weight.absmax", 6)),
      /needs 6 elements of F32/,
    ],
    [
      "nested absmax of another size",
      () => changed(nestedParts(), ".nested_absmax", f32("w.weight.nested_absmax", new Float32Array(2))),
      /nested_absmax is F32 \[2\]; .* needs 1 elements of F32/,
    ],
    [
      "a nested code of another size",
      () => changed(nestedParts(), ".nested_quant_map", f32("w.weight.nested_quant_map", new Float32Array(16))),
      /needs 256 elements/,
    ],
  ])("%s is refused", (_, parts, message) => {
    using source = checkpoint(parts());
    const error = thrownBy(() => storedWeights(source));
    expect(error).toBeInstanceOf(FormatError);
    expect(error!.message).toMatch(message);
  });

  test.each<[string, object | string, RegExp]>([
    ["no JSON", "{", /quant_state.bitsandbytes__nf4 is not valid JSON/],
    ["another type", { ...state, quant_type: "fp4" }, /quant_type is "fp4"; expected "nf4"/],
    ["a block size of 63", { ...state, blocksize: 63 }, /blocksize is 63; expected one of 32, 64/],
    ["a block size of 0", { ...state, blocksize: 0 }, /blocksize is 0; expected/],
    ["no shape", { ...state, shape: undefined }, /shape is missing; expected a list/],
    ["a negative shape", { ...state, shape: [-1, 3] }, /shape is \[-1,3\]; expected/],
    ["a vast shape", { ...state, shape: [2 ** 30, 2 ** 30, 2 ** 30] }, /shape is .*; expected/],
    ["a dtype of integers", { ...state, dtype: "int8" }, /dtype is "int8"; expected/],
    ["nested blocks of 3", { ...nestedState, nested_blocksize: 3 }, /nested_blocksize is 3/],
    ["an offset that is none", { ...nestedState, nested_offset: "x" }, /nested_offset is "x"; expected a number/],
    ["a nested dtype", { ...nestedState, nested_dtype: "float16" }, /nested_dtype is "float16"; expected "float32"/],
  ])("a state with %s is refused", (_, value, message) => {
    const name = ".quant_state.bitsandbytes__nf4";
    using source = checkpoint(changed(nestedParts(), name, json(`w.weight${name}`, value)));
    const error = thrownBy(() => storedWeights(source));
    expect(error).toBeInstanceOf(FormatError);
    expect(error!.message).toMatch(message);
  });

  test("other levels and other types are refused by name", () => {
    const other = Float32Array.from(fourBitLevels.nf4, (x) => x * 0.9);
    using levels = checkpoint(changed(plainParts(), ".quant_map", f32("w.weight.quant_map", other)));
    expect(thrownBy(() => storedWeights(levels))).toBeInstanceOf(UnsupportedError);
    using af4 = checkpoint([u8("w.weight", 4), json("w.weight.quant_state.bitsandbytes__af4", state)]);
    expect(thrownBy(() => storedWeights(af4))?.message).toMatch(/quantized to af4 by bitsandbytes; llcuda reads nf4/);
  });
});

describe("quantizations that llcuda does not read", () => {
  test.each([
    ["bitsandbytes 8-bit (LLM.int8)", ["q.weight", "q.SCB"]],
    ["GPTQ", ["q.qweight", "q.qzeros", "q.scales", "q.g_idx"]],
    ["AWQ", ["q.qweight", "q.qzeros", "q.scales"]],
    ["MXFP4", ["mlp.experts.gate_up_proj_blocks", "mlp.experts.gate_up_proj_scales"]],
    ["NVFP4", ["q.weight_packed", "q.weight_scale", "q.weight_global_scale"]],
    ["compressed-tensors", ["q.weight_packed", "q.weight_scale", "q.weight_shape"]],
    ["FP8", ["q.weight", "q.weight_scale_inv"]],
  ])("%s, by its tensors", (format, names) => {
    using source = checkpoint(names.map((name) => u8(name, 4)));
    const error = thrownBy(() => refuseForeignWeights(source, "folder", undefined));
    expect(error).toBeInstanceOf(UnsupportedError);
    expect(error!.message).toContain(`folder: the weights are quantized with ${format} (there is a tensor`);
  });

  test.each([
    ["gptq", "GPTQ"],
    ["compressed-tensors", "compressed-tensors"],
    ["mxfp4", "MXFP4"],
  ])("%s, by its config", (name, format) => {
    using source = checkpoint([u8("x", 1)]);
    const config = { method: "other", name, bits: undefined } as const;
    expect(thrownBy(() => refuseForeignWeights(source, "folder", config))?.message).toContain(
      `quantized with ${format},`,
    );
  });

  test("plain and 4-bit weights pass, whatever the config's list says", () => {
    using source = checkpoint(nestedParts());
    refuseForeignWeights(source, "folder", undefined);
  });
});
