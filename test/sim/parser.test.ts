import { describe, expect, test } from "vitest";
import { PtxError } from "../../src/sim/ptx/error.ts";
import { parsePtx } from "../../src/sim/ptx/parser.ts";

const head = ".version 6.0\n.target sm_60\n.address_size 64\n";

function kernel(body: string, parameters = ""): string {
  return `${head}.visible .entry k(${parameters})\n{\n${body}\n}\n`;
}

describe("PTX front end", () => {
  test("reads directives, parameters and registers", () => {
    const text = kernel(
      ".reg .pred %p<3>;\n.reg .b64 %rd<2>, %extra;\n.shared .align 16 .b8 tile[100];\n.shared .u64 sum;\nret;",
      ".param .u64 out,\n.param .f32 scale,\n.param .align 8 .b8 dims[64]",
    );
    const { version, target, entries } = parsePtx(text, "m");
    expect([version, target]).toEqual(["6.0", "sm_60"]);
    const [entry] = entries;
    expect(entry!.parameters.map(({ name, offset, bytes }) => [name, offset, bytes])).toEqual([
      ["out", 0, 8],
      ["scale", 8, 4],
      ["dims", 16, 64],
    ]);
    expect(entry!.parameterBytes).toBe(80);
    expect(entry!.registers.map((r) => r.name)).toEqual(["%p0", "%p1", "%p2", "%rd0", "%rd1", "%extra"]);
    expect(entry!.sharedBytes).toBe(112);
  });

  test("keeps lines of the text and of the source", () => {
    const text = `${head}.file 1 "a.cu"\n.entry k()\n{\n.reg .b32 %r<2>;\n.loc 1 42 7, function_name $L__info, inlined_at 1 3 0\n// note\nmov.u32 %r1, 5;\n/* two\nlines */\nret;\n.loc 1 0 0\nret;\n}\n`;
    const { files, entries } = parsePtx(text, "m");
    const [move, ret, last] = entries[0]!.body.map((s) => ("instruction" in s ? s.instruction : undefined));
    expect(files.get(1)).toBe("a.cu");
    expect(move).toMatchObject({ name: "mov", modifiers: ["u32"], line: 10, source: { file: 1, line: 42 } });
    expect(ret?.line).toBe(13);
    // A line 0 is the compiler's own: the line before it is near.
    expect(last).toMatchObject({ line: 15, source: { file: 1, line: 42, near: true } });
  });

  test("passes over debugging data, which -lineinfo adds behind the kernels", () => {
    const text = `.version 7.0
.target sm_60
.address_size 64
.visible .entry k() { .loc 1 5 3, function_name $L__info_string0, inlined_at 1 9 3
 ret; }
.file 1 "k.cu"
.section .debug_str
{
$L__info_string0:
.b8 95,90,0
}
.visible .entry l() { ret; }
`;
    const module = parsePtx(text, "k.ptx");
    expect(module.entries.map(({ name }) => name)).toEqual(["k", "l"]);
    expect(module.files.get(1)).toBe("k.cu");
    expect(() => parsePtx(text.slice(0, text.indexOf("95,90")), "k.ptx")).toThrow(
      /k\.ptx: PTX line \d+: the text ends inside/,
    );
  });

  test("reads every kind of operand", () => {
    const text = kernel(
      ".reg .pred %p<2>;\n.reg .b32 %r<4>;\n.reg .b64 %rd<2>;\n.reg .f32 %f<5>;\n" +
        "@!%p0 ld.global.v2.f32 {%f1, _}, [%rd1+-8];\nmov.b64 %rd1, {%r1, %r2};\nsetp.lt.and.f32 %p0|%p1, %f1, -0f3F800000, !%p1;\n" +
        "mov.u32 %r1, %tid.x;\nadd.s32 %r2, %r1, -0x10;\n",
    );
    const [load, pack, compare, special, add] = parsePtx(text, "m").entries[0]!.body.map((s) =>
      "instruction" in s ? s.instruction : undefined,
    );
    expect(load!.guard).toMatchObject({ register: { name: "%p0" }, negated: true });
    expect(load!.operands[0]).toMatchObject({ kind: "vector", items: [{ kind: "register" }, { kind: "sink" }] });
    expect(load!.operands[1]).toMatchObject({ kind: "address", offset: -8 });
    expect(pack!.operands[1]).toMatchObject({ kind: "vector" });
    expect(compare!.operands[0]).toMatchObject({ kind: "pair" });
    expect(compare!.operands[2]).toMatchObject({ kind: "float", bits: 0xbf800000n });
    expect(compare!.operands[3]).toMatchObject({ kind: "register", negated: true });
    expect(special!.operands[1]).toEqual({ kind: "special", name: "%tid.x" });
    expect(add!.operands[2]).toEqual({ kind: "integer", value: -16n });
  });

  test("registers and labels of nested scopes are their own", () => {
    const scope = "{ .reg .b32 %t; mov.u32 %t, 1;\nAGAIN: bra AGAIN; }";
    const { entries } = parsePtx(kernel(`.reg .b32 %t;\n${scope}\n${scope}`), "m");
    expect(entries[0]!.registers).toHaveLength(3);
    const labels = entries[0]!.body.flatMap((s) => ("label" in s ? [s.label] : []));
    expect(new Set(labels).size).toBe(2);
  });

  test("module variables have initial bytes", () => {
    const text = `${head}.const .align 4 .b32 table[3] = {1, -1, 0f3F800000};\n.entry k() { ret; }`;
    const [table] = parsePtx(text, "m").variables;
    expect([...table!.initial!]).toEqual([1, 0, 0, 0, 255, 255, 255, 255, 0, 0, 128, 63]);
  });

  test.each([
    ["an undeclared register", kernel(".reg .b32 %r<2>;\nmov.u32 %r1, 1;\nmov.u32 %q, %r1;"), /line 8: .*%q/],
    ["text that ends early", `${head}.entry k()\n{\nret;\n`, /line 7: the text ends inside a kernel/],
    ["a stray character", kernel("ret;\n`"), /line 7: unexpected character/],
    ["another address size", ".version 6.0\n.target sm_60\n.address_size 32\n", /64-bit addresses/],
  ])("%s is an error with its line", (_, text, message) => {
    expect(() => parsePtx(text, "m")).toThrow(PtxError);
    expect(() => parsePtx(text, "m")).toThrow(message);
  });
});
