import { describe, expect, test } from "vitest";
import { bfloat16 } from "../../../src/base/dtype.ts";
import { fourBitData, fourBitHeads, pythonFloat } from "../../../src/formats/stored/bitsandbytes-write.ts";

describe("the state of a 4-bit weight", () => {
  // From Python's repr.
  test.each([
    [0.26151466369628906, "0.26151466369628906"],
    [1, "1.0"],
    [0.0001, "0.0001"],
    [0.00001, "1e-05"],
    [-0.000012345678806304933, "-1.2345678806304933e-05"],
    [1e-10, "1e-10"],
    [0, "0.0"],
    [-0, "-0.0"],
    [123456789, "123456789.0"],
    [1e16, "1e+16"],
    [1.5e300, "1.5e+300"],
  ])("%d is spelled as Python spells it", (value, text) => {
    expect(pythonFloat(value)).toBe(text);
  });

  test("is the JSON that bitsandbytes writes, and its parts have bitsandbytes' names and shapes", () => {
    const plan = {
      name: "x.weight",
      type: "nf4",
      shape: [6, 100],
      dtype: bfloat16,
      blockSize: 64,
      nested: { blockSize: 256, offset: 0.25 },
    } as const;
    const heads = fourBitHeads(plan);
    expect(heads.map(({ name, dtype, shape }) => [name.replace("x.weight", ""), dtype, ...shape])).toEqual([
      ["", "uint8", 300, 1],
      [".absmax", "uint8", 10],
      [".quant_map", "float32", 16],
      [".nested_absmax", "float32", 1],
      [".nested_quant_map", "float32", 256],
      [".quant_state.bitsandbytes__nf4", "uint8", 153],
    ]);
    const bytes = { packed: new Uint8Array(300), absmax: new Uint8Array(10) };
    const nested = { absmax: new Float32Array(1), code: new Float32Array(256) };
    const data = new Map(fourBitData(plan, { ...bytes, nested }));
    expect([...data.keys()]).toEqual(heads.map((head) => head.name));
    expect(Buffer.from(data.get("x.weight.quant_state.bitsandbytes__nf4") as Uint8Array).toString()).toBe(
      '{"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [6, 100], "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.25}',
    );
  });
});
