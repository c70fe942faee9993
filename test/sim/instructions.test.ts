import { describe, expect, test } from "vitest";
import type { Device } from "../../src/driver/device.ts";
import { SimProvider } from "../../src/sim/provider.ts";
import { evaluate, type ValueType } from "./evaluate.ts";
import { add, decode, type Exact, encode, formats, multiply, negate, type Rounding } from "./exact.ts";
import { tuples32, tuples64 } from "./operands.ts";

const device: Device = new SimProvider().open("sim:sm_80");

type Reference32 = (a: number, b: number, c: number) => number;

function arity(code: string): number {
  return [0, 1, 2].filter((i) => code.includes(`%i${i}`)).length;
}

/** Compares 32-bit results bit by bit; `undefined` expects any NaN. */
function check32(
  code: string,
  type: ValueType,
  output: ValueType,
  reference: (...bits: number[]) => number | undefined,
): void {
  const operands = tuples32(arity(code), type === "f32", 7);
  const found = new Uint32Array(
    evaluate(
      device,
      code,
      operands.map(() => type),
      output,
      operands,
    ),
  );
  for (let i = 0; i < found.length; i++) {
    const bits = operands.map((operand) => operand[i]!);
    const want = reference(...bits);
    const same = want === undefined ? (found[i]! & 0x7fffffff) > 0x7f800000 : found[i] === want >>> 0;
    if (!same)
      expect([code, bits.map((b) => b.toString(16)), found[i]!.toString(16)]).toEqual([
        code,
        [],
        want?.toString(16) ?? "NaN",
      ]);
  }
  expect(found.length).toBeGreaterThan(600);
}

const big = (a: number, b: number): bigint => BigInt(a | 0) * BigInt(b | 0);
const shift = (n: number, inside: number, outside: number): number => (n < 32 ? inside : outside);
const bit = (condition: boolean): number => +condition;
const popcount = (a: number): number => a.toString(2).replaceAll("0", "").length;

const integers: readonly (readonly [string, ValueType, Reference32])[] = [
  ["add.u32 %o, %i0, %i1;", "u32", (a, b) => a + b],
  ["sub.s32 %o, %i0, %i1;", "s32", (a, b) => a - b],
  ["add.sat.s32 %o, %i0, %i1;", "s32", (a, b) => Math.max(-(2 ** 31), Math.min(2 ** 31 - 1, (a | 0) + (b | 0)))],
  ["sub.sat.s32 %o, %i0, %i1;", "s32", (a, b) => Math.max(-(2 ** 31), Math.min(2 ** 31 - 1, (a | 0) - (b | 0)))],
  ["mul.lo.u32 %o, %i0, %i1;", "u32", (a, b) => Math.imul(a, b)],
  ["mul.hi.u32 %o, %i0, %i1;", "u32", (a, b) => Number((BigInt(a) * BigInt(b)) >> 32n)],
  ["mul.hi.s32 %o, %i0, %i1;", "s32", (a, b) => Number(big(a, b) >> 32n)],
  ["mad.lo.s32 %o, %i0, %i1, %i2;", "s32", (a, b, c) => Math.imul(a, b) + c],
  ["mad.hi.u32 %o, %i0, %i1, %i2;", "u32", (a, b, c) => Number((BigInt(a) * BigInt(b)) >> 32n) + c],
  [
    "mul24.lo.u32 %o, %i0, %i1;",
    "u32",
    (a, b) => Number(BigInt.asUintN(32, BigInt(a & 0xffffff) * BigInt(b & 0xffffff))),
  ],
  ["sad.s32 %o, %i0, %i1, %i2;", "s32", (a, b, c) => Math.abs((a | 0) - (b | 0)) + c],
  ["div.u32 %o, %i0, %i1;", "u32", (a, b) => (b === 0 ? -1 : Math.floor(a / b))],
  ["div.s32 %o, %i0, %i1;", "s32", (a, b) => ((b | 0) === 0 ? -1 : Math.trunc((a | 0) / (b | 0)))],
  ["rem.u32 %o, %i0, %i1;", "u32", (a, b) => (b === 0 ? -1 : a % b)],
  ["rem.s32 %o, %i0, %i1;", "s32", (a, b) => ((b | 0) === 0 ? -1 : (a | 0) % (b | 0))],
  ["min.s32 %o, %i0, %i1;", "s32", (a, b) => Math.min(a | 0, b | 0)],
  ["max.u32 %o, %i0, %i1;", "u32", (a, b) => Math.max(a, b)],
  ["abs.s32 %o, %i0;", "s32", (a) => Math.abs(a | 0)],
  ["neg.s32 %o, %i0;", "s32", (a) => -a],
  ["and.b32 %o, %i0, %i1;", "u32", (a, b) => a & b],
  ["or.b32 %o, %i0, %i1;", "u32", (a, b) => a | b],
  ["xor.b32 %o, %i0, %i1;", "u32", (a, b) => a ^ b],
  ["not.b32 %o, %i0;", "u32", (a) => ~a],
  ["cnot.b32 %o, %i0;", "u32", (a) => bit(a === 0)],
  ["shl.b32 %o, %i0, %i1;", "u32", (a, b) => shift(b, a << b, 0)],
  ["shr.u32 %o, %i0, %i1;", "u32", (a, b) => shift(b, a >>> b, 0)],
  ["shr.s32 %o, %i0, %i1;", "s32", (a, b) => shift(b, a >> b, a >> 31)],
  ["shl.b32 %o, %i0, 32;", "u32", () => 0],
  ["shr.s32 %o, %i0, 40;", "s32", (a) => a >> 31],
  [
    "shf.l.wrap.b32 %o, %i0, %i1, %i2;",
    "u32",
    (a, b, c) => Number(BigInt.asUintN(32, (((BigInt(b) << 32n) | BigInt(a)) << BigInt(c & 31)) >> 32n)),
  ],
  [
    "shf.r.clamp.b32 %o, %i0, %i1, %i2;",
    "u32",
    (a, b, c) => Number(BigInt.asUintN(32, ((BigInt(b) << 32n) | BigInt(a)) >> BigInt(Math.min(c, 32)))),
  ],
  ["popc.b32 %o, %i0;", "u32", popcount],
  ["clz.b32 %o, %i0;", "u32", (a) => Math.clz32(a)],
  ["brev.b32 %o, %i0;", "u32", (a) => Number.parseInt([...a.toString(2).padStart(32, "0")].reverse().join(""), 2)],
  ["bfind.u32 %o, %i0;", "u32", (a) => 31 - Math.clz32(a)],
  ["bfind.s32 %o, %i0;", "s32", (a) => 31 - Math.clz32(a ^ (a >> 31))],
  ["bfind.shiftamt.u32 %o, %i0;", "u32", (a) => (a === 0 ? -1 : Math.clz32(a))],
  ["lop3.b32 %o, %i0, %i1, %i2, 0x96;", "u32", (a, b, c) => a ^ b ^ c],
  ["lop3.b32 %o, %i0, %i1, %i2, 0xe4;", "u32", (a, b, c) => (a & c) | (b & ~c)],
  [
    "prmt.b32 %o, %i0, %i1, %i2;",
    "u32",
    (a, b, c) => {
      const bytes = [0, 1, 2, 3]
        .flatMap((i) => [(a >>> (8 * i)) & 255])
        .concat([0, 1, 2, 3].map((i) => (b >>> (8 * i)) & 255));
      return [0, 1, 2, 3].reduce((sum, i) => {
        const selector = (c >>> (4 * i)) & 15;
        const byte = bytes[selector & 7]!;
        return sum | ((selector & 8 ? (byte & 128 ? 255 : 0) : byte) << (8 * i));
      }, 0);
    },
  ],
  [
    "dp4a.s32.u32 %o, %i0, %i1, %i2;",
    "u32",
    (a, b, c) => [0, 1, 2, 3].reduce((sum, i) => sum + ((a << (24 - 8 * i)) >> 24) * ((b >>> (8 * i)) & 255), c),
  ],
  [
    "bfe.u32 %o, %i0, %i1, %i2;",
    "u32",
    (a, b, c) => {
      const [position, length] = [b & 255, c & 255];
      return Number((BigInt(a) >> BigInt(position)) & ((1n << BigInt(length)) - 1n));
    },
  ],
  [
    "bfe.s32 %o, %i0, %i1, %i2;",
    "s32",
    (a, b, c) => {
      const [position, length] = [b & 255, c & 255];
      const sign = length === 0 ? 0 : (a >>> Math.min(position + length - 1, 31)) & 1;
      let result = 0;
      for (let i = 0; i < 32; i++)
        result |= (i < length && position + i <= 31 ? (a >>> (position + i)) & 1 : sign) << i;
      return result;
    },
  ],
  [
    "bfi.b32 %o, %i0, %i1, %i2, 5;",
    "u32",
    (a, b, c) => {
      let result = b;
      for (let i = 0; i < 5 && i + (c & 255) < 32; i++) {
        const at = i + (c & 255);
        result = (result & ~(1 << at)) | (((a >>> i) & 1) << at);
      }
      return result;
    },
  ],
  ["set.lt.u32.s32 %o, %i0, %i1;", "s32", (a, b) => -bit((a | 0) < (b | 0))],
  ["slct.u32.s32 %o, %i0, %i1, %i2;", "u32", (a, b, c) => ((c | 0) >= 0 ? a : b)],
  ["add.cc.u32 %t, %i0, %i1; addc.u32 %o, %i2, 0;", "u32", (a, b, c) => c + bit(a + b >= 2 ** 32)],
  ["sub.cc.u32 %t, %i0, %i1; subc.u32 %o, %i2, 7;", "u32", (a, b, c) => c - 7 - bit(a < b)],
  ["cvt.u32.u16 %o, %i0;", "u32", (a) => a & 0xffff],
  ["cvt.s32.s8 %o, %i0;", "u32", (a) => (a << 24) >> 24],
  ["cvt.sat.u16.s32 %o, %i0;", "s32", (a) => Math.max(0, Math.min(65535, a | 0))],
  ["cvt.sat.s8.u32 %o, %i0;", "u32", (a) => Math.min(127, a)],
];

describe("32-bit integer instructions", () => {
  test.each(integers.map(([code, type, reference]) => ({ code, type, reference })))(
    "$code",
    ({ code, type, reference }) => {
      check32(code, type, type, reference as (...bits: number[]) => number);
    },
  );
});

const integers64: readonly (readonly [string, (a: bigint, b: bigint, c: bigint) => bigint])[] = [
  ["add.s64 %o, %i0, %i1;", (a, b) => a + b],
  ["sub.u64 %o, %i0, %i1;", (a, b) => a - b],
  ["mul.lo.s64 %o, %i0, %i1;", (a, b) => a * b],
  ["mul.hi.u64 %o, %i0, %i1;", (a, b) => (a * b) >> 64n],
  ["mul.hi.s64 %o, %i0, %i1;", (a, b) => (BigInt.asIntN(64, a) * BigInt.asIntN(64, b)) >> 64n],
  ["mad.lo.u64 %o, %i0, %i1, %i2;", (a, b, c) => a * b + c],
  ["div.u64 %o, %i0, %i1;", (a, b) => (b === 0n ? -1n : a / b)],
  ["div.s64 %o, %i0, %i1;", (a, b) => (b === 0n ? -1n : BigInt.asIntN(64, a) / BigInt.asIntN(64, b))],
  ["rem.s64 %o, %i0, %i1;", (a, b) => (b === 0n ? -1n : BigInt.asIntN(64, a) % BigInt.asIntN(64, b))],
  ["min.u64 %o, %i0, %i1;", (a, b) => [a, b].sort((x, y) => (x < y ? -1 : 1))[0]!],
  ["max.s64 %o, %i0, %i1;", (a, b) => (BigInt.asIntN(64, a) > BigInt.asIntN(64, b) ? a : b)],
  ["abs.s64 %o, %i0;", (a) => (BigInt.asIntN(64, a) < 0n ? -a : a)],
  ["cvt.u32.u64 %t, %i1; shl.b64 %o, %i0, %t;", (a, b) => ((b & 0xffffffffn) > 63n ? 0n : a << (b & 0xffffffffn))],
  [
    "cvt.u32.u64 %t, %i1; shr.s64 %o, %i0, %t;",
    (a, b) => BigInt.asIntN(64, a) >> ((b & 0xffffffffn) > 63n ? 63n : b & 0xffffffffn),
  ],
  ["brev.b64 %o, %i0;", (a) => BigInt(`0b${[...a.toString(2).padStart(64, "0")].reverse().join("")}`)],
  ["clz.b64 %t, %i0; cvt.u64.u32 %o, %t;", (a) => BigInt(a === 0n ? 64 : 64 - a.toString(2).length)],
  [
    "setp.lt.s64 %p, %i0, %i1; selp.b64 %o, %i0, %i1, %p;",
    (a, b) => (BigInt.asIntN(64, a) < BigInt.asIntN(64, b) ? a : b),
  ],
];

describe("64-bit integer instructions", () => {
  test.each(integers64.map(([code, reference]) => ({ code, reference })))("$code", ({ code, reference }) => {
    const operands = tuples64(arity(code), 11);
    const found = new BigUint64Array(
      evaluate(
        device,
        code,
        operands.map(() => "u64"),
        "u64",
        operands,
      ),
    );
    for (let i = 0; i < found.length; i++) {
      const [a = 0n, b = 0n, c = 0n] = operands.map((operand) => operand[i]!);
      const want = BigInt.asUintN(64, reference(a, b, c));
      if (found[i] !== want) expect([code, a, b, c, found[i]]).toEqual([code, a, b, c, want]);
    }
    expect(found.length).toBeGreaterThan(400);
  });
});

const f32 = formats.f32;
type ExactReference = (operands: Exact[], mode: Rounding) => Exact;
const sum: ExactReference = ([a, b], mode) => add(a!, b!, mode);
const difference: ExactReference = ([a, b], mode) => add(a!, negate(b!), mode);
const product: ExactReference = ([a, b]) => multiply(a!, b!);
const fused: ExactReference = ([a, b, c], mode) => add(multiply(a!, b!), c!, mode);

describe("float arithmetic against exact arithmetic", () => {
  const modes = ["rn", "rz", "rm", "rp"] as const;
  const rows = modes.flatMap((mode) => [
    { code: `add.${mode}.f32 %o, %i0, %i1;`, mode, reference: sum },
    { code: `sub.${mode}.f32 %o, %i0, %i1;`, mode, reference: difference },
    { code: `mul.${mode}.f32 %o, %i0, %i1;`, mode, reference: product },
    { code: `fma.${mode}.f32 %o, %i0, %i1, %i2;`, mode, reference: fused },
  ]);
  test.each(rows)("$code", ({ code, mode, reference }) => {
    check32(code, "f32", "f32", (...bits) => {
      const want = encode(
        f32,
        reference(
          bits.map((b) => decode(f32, BigInt(b))),
          mode,
        ),
        mode,
      );
      return want === undefined ? undefined : Number(want);
    });
  });

  test("fma.rn.f64, add.f64 and mul.f64", () => {
    const f64 = formats.f64;
    for (const [code, reference] of [
      ["fma.rn.f64 %o, %i0, %i1, %i2;", fused],
      ["add.f64 %o, %i0, %i1;", sum],
      ["mul.f64 %o, %i0, %i1;", product],
    ] as const) {
      const operands = tuples64(arity(code), 5);
      const found = new BigUint64Array(
        evaluate(
          device,
          code,
          operands.map(() => "f64"),
          "f64",
          operands,
        ),
      );
      for (let i = 0; i < found.length; i++) {
        const want = encode(
          f64,
          reference(
            operands.map((o) => decode(f64, o[i]!)),
            "rn",
          ),
          "rn",
        );
        const isNotANumber = (found[i]! & 0x7fffffffffffffffn) > 0x7ff0000000000000n;
        if (want === undefined ? !isNotANumber : found[i] !== want)
          expect([code, i, found[i]]).toEqual([code, i, want]);
      }
    }
  });
});

const view = new DataView(new ArrayBuffer(8));
const asFloat = (bits: number): number => {
  view.setUint32(0, bits);
  return view.getFloat32(0);
};
const asBits = (value: number): number | undefined => {
  view.setFloat32(0, value);
  return Number.isNaN(value) ? undefined : view.getUint32(0);
};
const subnormal = (x: number): boolean => Math.abs(x) < 2 ** -126;
const flush = (x: number): number => (subnormal(x) ? 0 * Math.sign(x) || (Object.is(x, -0) ? -0 : x < 0 ? -0 : 0) : x);

function pickMinimum(a: number, b: number): number {
  if (Number.isNaN(a)) return b;
  if (Number.isNaN(b)) return a;
  return Math.min(a, b);
}

const floats: readonly (readonly [string, (a: number, b: number, c: number) => number])[] = [
  ["div.rn.f32 %o, %i0, %i1;", (a, b) => a / b],
  ["rcp.rn.f32 %o, %i0;", (a) => 1 / a],
  ["sqrt.rn.f32 %o, %i0;", (a) => Math.sqrt(a)],
  ["min.f32 %o, %i0, %i1;", pickMinimum],
  ["max.f32 %o, %i0, %i1;", (a, b) => -pickMinimum(-a, -b)],
  ["max.NaN.f32 %o, %i0, %i1;", (a, b) => Math.max(a, b)],
  ["abs.f32 %o, %i0;", Math.abs],
  ["neg.f32 %o, %i0;", (a) => -a],
  ["add.ftz.f32 %o, %i0, %i1;", (a, b) => flush(Math.fround(flush(a) + flush(b)))],
  ["mul.ftz.f32 %o, %i0, %i1;", (a, b) => flush(Math.fround(flush(a) * flush(b)))],
  ["add.sat.f32 %o, %i0, %i1;", (a, b) => (a + b > 0 ? Math.min(1, a + b) : 0)],
  [
    "cvt.rni.f32.f32 %o, %i0;",
    (a) => {
      const down = Math.floor(a);
      const away = a - down;
      const whole = away < 0.5 || (away === 0.5 && down % 2 === 0) ? down : down + 1;
      return Number.isFinite(a) ? (whole === 0 ? 0 * Math.sign(a) || a * 0 : whole) : a;
    },
  ],
  ["cvt.rmi.f32.f32 %o, %i0;", Math.floor],
  ["cvt.rpi.f32.f32 %o, %i0;", Math.ceil],
  ["cvt.rzi.f32.f32 %o, %i0;", Math.trunc],
  ["cvt.sat.f32.f32 %o, %i0;", (a) => (a > 0 ? Math.min(1, a) : 0)],
  ["copysign.f32 %o, %i0, %i1;", (a, b) => (a < 0 || Object.is(a, -0) ? -Math.abs(b) : Math.abs(b))],
];

describe("other float instructions", () => {
  test.each(floats.map(([code, reference]) => ({ code, reference })))("$code", ({ code, reference }) => {
    check32(code, "f32", "f32", (...bits) => {
      const [a = 0, b = 0, c = 0] = bits.map(asFloat);
      // The sign of a NaN is a bit like another, but not for a reference in numbers.
      if (code.startsWith("copysign") && Number.isNaN(a))
        return ((bits[0]! & 0x80000000) | (bits[1]! & 0x7fffffff)) >>> 0;
      return asBits(Math.fround(reference(a, b, c)));
    });
  });

  const ordered = { eq: "===", ne: "!==", lt: "<", le: "<=", gt: ">", ge: ">=" } as const;
  test.each(Object.keys(ordered))("setp.%s, and its unordered form", (name) => {
    const compare: Record<string, (a: number, b: number) => boolean> = {
      eq: (a, b) => a === b,
      ne: (a, b) => a < b || a > b,
      lt: (a, b) => a < b,
      le: (a, b) => a <= b,
      gt: (a, b) => a > b,
      ge: (a, b) => a >= b,
    };
    for (const unordered of [false, true]) {
      const code = `setp.${name}${unordered ? "u" : ""}.f32 %p, %i0, %i1; selp.u32 %o, 1, 0, %p;`;
      check32(code, "f32", "u32", (x, y) => {
        const [a, b] = [asFloat(x!), asFloat(y!)];
        return bit(compare[name]!(a, b) || (unordered && (Number.isNaN(a) || Number.isNaN(b))));
      });
    }
  });

  const clamp =
    (low: number, high: number, nan: number) => (round: (a: number) => number) => (bits: number | undefined) => {
      const a = asFloat(bits!);
      return Number.isNaN(a) ? nan : Math.max(low, Math.min(high, round(a)));
    };
  test.each([
    { code: "cvt.rzi.s32.f32 %o, %i0;", reference: clamp(-(2 ** 31), 2 ** 31 - 1, 0)(Math.trunc) },
    { code: "cvt.rmi.s32.f32 %o, %i0;", reference: clamp(-(2 ** 31), 2 ** 31 - 1, 0)(Math.floor) },
    { code: "cvt.rpi.u32.f32 %o, %i0;", reference: clamp(0, 2 ** 32 - 1, 0)(Math.ceil) },
    { code: "cvt.rzi.u8.f32 %o, %i0;", reference: clamp(0, 255, 0)(Math.trunc) },
  ])("$code", ({ code, reference }) => {
    check32(code, "f32", "u32", reference);
  });

  test.each([
    { code: "cvt.rn.f32.s32 %o, %i0;", reference: (a: number) => a | 0 },
    { code: "cvt.rn.f32.u32 %o, %i0;", reference: (a: number) => a },
  ])("$code", ({ code, reference }) => {
    check32(code, "u32", "f32", (bits) => asBits(Math.fround(reference(bits!))));
  });
});

describe("16-bit floats", () => {
  const all = Uint16Array.from({ length: 65536 }, (_, i) => i);
  test.each(["f16", "bf16"] as const)("every %s to f32 and back", (type) => {
    const code = type === "f16" ? "cvt.f32.f16 %o, %i0;" : "mov.b32 %o, {0, %i0};";
    const wide = new Uint32Array(evaluate(device, code, [type], "f32", [all]));
    const back = new Uint16Array(evaluate(device, `cvt.rn.${type}.f32 %o, %i0;`, ["f32"], type, [wide]));
    for (let i = 0; i < 65536; i++) {
      const value = decode(formats[type], BigInt(i));
      if (value === "nan") {
        expect(back[i]).toBe(0x7fff);
        continue;
      }
      if (BigInt(wide[i]!) !== encode(f32, value, "rn")) expect([i, wide[i]]).toEqual([i, encode(f32, value, "rn")]);
      if (back[i] !== i) expect(back[i]).toBe(i);
    }
  });

  test.each([
    ["f16", "rn"],
    ["f16", "rz"],
    ["bf16", "rn"],
    ["bf16", "rz"],
  ] as const)("cvt to %s, %s", (type, mode) => {
    const [bits] = tuples32(1, true, 3);
    const halfway = Uint32Array.from({ length: 4096 }, (_, i) => (i * 0x000ff001) >>> 0);
    for (const source of [bits!, halfway]) {
      const found = new Uint16Array(evaluate(device, `cvt.${mode}.${type}.f32 %o, %i0;`, ["f32"], type, [source]));
      for (let i = 0; i < found.length; i++) {
        const want = encode(formats[type], decode(f32, BigInt(source[i]!)), mode) ?? 0x7fffn;
        if (BigInt(found[i]!) !== want)
          expect([source[i]!.toString(16), found[i]]).toEqual([source[i]!.toString(16), want]);
      }
    }
  });

  test.each(["f16", "bf16"] as const)("add, mul and fma of %s round once", (type) => {
    const corners = [
      0, 1, 0x8001, 0x3ff, 0x400, 0x3c00, 0x3f80, 0xbc00, 0x7bff, 0x7c00, 0x7f7f, 0x7f80, 0xfc00, 0x7e00,
    ];
    const rows = corners.flatMap((a) => corners.flatMap((b) => corners.map((c) => [a, b, c])));
    for (let i = 0; i < 3000; i++) rows.push([(i * 7919) & 0xffff, (i * 104729) & 0xffff, (i * 15485863) & 0xffff]);
    const operands = [0, 1, 2].map((k) => Uint16Array.from(rows, (row) => row[k]!));
    const format = formats[type];
    const cases = [
      ["fma.rn", fused, 3],
      ...(type === "f16" ? [["add.rn", sum, 2] as const, ["mul.rn", product, 2] as const] : []),
    ] as const;
    for (const [name, reference, count] of cases) {
      const used = operands.slice(0, count);
      const code = `${name}.${type} %o, ${used.map((_, i) => `%i${i}`).join(", ")};`;
      const found = new Uint16Array(
        evaluate(
          device,
          code,
          used.map(() => type),
          type,
          used,
        ),
      );
      for (let i = 0; i < found.length; i++) {
        const want =
          encode(
            format,
            reference(
              used.map((o) => decode(format, BigInt(o[i]!))),
              "rn",
            ),
            "rn",
          ) ?? 0x7fffn;
        if (BigInt(found[i]!) !== want) expect([code, rows[i], found[i]]).toEqual([code, rows[i], want]);
      }
    }
  });
});

describe("approximate instructions are within what PTX documents", () => {
  /** Relative error 2^-22 (a few units in the last place) where the result is a normal number. */
  test.each([
    ["ex2.approx.f32", (x: number) => 2 ** x],
    ["lg2.approx.f32", Math.log2],
    ["rcp.approx.f32", (x: number) => 1 / x],
    ["sqrt.approx.f32", Math.sqrt],
    ["rsqrt.approx.f32", (x: number) => 1 / Math.sqrt(x)],
    ["sin.approx.f32", Math.sin],
    ["cos.approx.f32", Math.cos],
    ["tanh.approx.f32", Math.tanh],
  ] as const)("%s", (name, reference) => {
    const [bits] = tuples32(1, true, 9);
    const found = new Float32Array(evaluate(device, `${name} %o, %i0;`, ["f32"], "f32", [bits!]));
    for (let i = 0; i < found.length; i++) {
      const want = reference(asFloat(bits![i]!));
      if (Number.isNaN(want)) expect(found[i]).toBe(Number.NaN);
      else if (Math.abs(want) > 3.4e38) expect(Math.abs(found[i]!)).toBeGreaterThan(3.4e38);
      else expect(Math.abs(found[i]! - want)).toBeLessThan(Math.abs(want) * 2 ** -22 + 2 ** -126);
    }
  });
});

test("an instruction that is not known is named, with its kernel and line", () => {
  const one = [new Uint32Array(1)];
  expect(() => evaluate(device, "vadd.u32.u32.u32 %o, %i0, %i0;", ["u32"], "u32", one)).toThrow(
    /instruction vadd\.u32\.u32\.u32 in evaluate .*PTX line \d+\) is not implemented/,
  );
});
