import { describe, expect, test } from "vitest";
import { elementType, elementTypeNames, formatElement, npyElementType } from "../../src/cli/sim/element-types.ts";
import { seededInts } from "../formats/support.ts";

const types = elementTypeNames.split(", ").map((name) => elementType(name)!);

describe("element types", () => {
  test.each(types.map((type) => [type.name, type] as const))(
    "%s: any bits are read, written and printed without loss",
    (_, type) => {
      const next = seededInts(type.bytes);
      const view = new DataView(new ArrayBuffer(16));
      for (let round = 0; round < 300; round++) {
        for (let i = 0; i < type.bytes; i++) view.setUint8(i, next(256));
        const value = type.read(view, 0);
        if (Number.isNaN(value)) continue;
        const text = formatElement(type, value);
        type.write(view, 8, type.isFloat ? Number(text) : BigInt(text));
        for (let i = 0; i < type.bytes; i++) expect(view.getUint8(8 + i)).toBe(view.getUint8(i));
      }
    },
  );

  test("floats are printed as short as they can be", () => {
    expect(formatElement(elementType("f32")!, Math.fround(0.1))).toBe("0.1");
    expect(formatElement(elementType("f16")!, 0.0999755859375)).toBe("0.1");
    expect(formatElement(elementType("bf16")!, -0)).toBe("-0");
    expect(formatElement(elementType("f64")!, 0.1)).toBe("0.1");
  });

  test("NumPy's and PTX's other names", () => {
    for (const type of types) if (type.npy) expect(npyElementType(type.npy)).toBe(type);
    expect(npyElementType("|b1")?.name).toBe("u8");
    expect(npyElementType("<c8")).toBe(undefined);
    expect(elementType("s16")).toBe(elementType("i16"));
    expect(elementType("b64")).toBe(elementType("u64"));
  });
});
