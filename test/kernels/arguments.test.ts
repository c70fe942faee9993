import { expect, test } from "vitest";
import type { DevicePtr, HostBlock } from "../../src/driver/api.ts";
import { argLayout, compilePacker } from "../../src/kernels/arguments.ts";

function block(bytes: number): HostBlock {
  return { address: 0n, buffer: new ArrayBuffer(bytes), devicePtr: undefined };
}

test("parameters lie in C order with natural alignment, without padding at the end", () => {
  const layout = argLayout({ n: "i32", x: "ptr", eps: "f32", map: "tensorMap", shape: "dims", last: "i32" });
  expect(layout.fields.map((f) => f.offset)).toEqual([0, 8, 16, 64, 192, 256]);
  expect(layout.bytes).toBe(260);
});

test("values are stored as C would store them", () => {
  const b = block(320);
  const args = { n: "i32", x: "ptr", u: "u32", f: "f32", i: "i64", w: "u64", shape: "dims", map: "tensorMap" } as const;
  const map = Uint8Array.from({ length: 128 }, (_, i) => i);
  compilePacker(
    args,
    b,
  )({
    n: -2,
    x: 0x7f00_1234_5678_9abcn as DevicePtr,
    u: 0xffff_fff0,
    f: 0.1,
    i: -3n,
    w: 2n ** 64n - 1n,
    shape: [1, -1, 2 ** 40 + 5, -(2 ** 33), 0],
    map,
  });
  const view = new DataView(b.buffer);
  const at = (name: string) => argLayout(args).fields.find((f) => f.name === name)!.offset;
  expect(view.getInt32(at("n"), true)).toBe(-2);
  expect(view.getBigUint64(at("x"), true)).toBe(0x7f00_1234_5678_9abcn);
  expect(view.getUint32(at("u"), true)).toBe(0xffff_fff0);
  expect(view.getFloat32(at("f"), true)).toBe(Math.fround(0.1));
  expect(view.getBigInt64(at("i"), true)).toBe(-3n);
  expect(view.getBigUint64(at("w"), true)).toBe(2n ** 64n - 1n);
  const dims = Array.from({ length: 5 }, (_, i) => Number(view.getBigInt64(at("shape") + 8 * i, true)));
  expect(dims).toEqual([1, -1, 2 ** 40 + 5, -(2 ** 33), 0]);
  expect([...new Uint8Array(b.buffer, at("map"), 128)]).toEqual([...map]);
});

test("a second call leaves nothing of the first behind", () => {
  const b = block(64);
  const pack = compilePacker({ a: "i32", b: "f32" }, b);
  pack({ a: -1, b: Number.NaN });
  pack({ a: 7, b: 2 });
  expect([...new Int32Array(b.buffer, 0, 1), ...new Float32Array(b.buffer, 4, 1)]).toEqual([7, 2]);
});
