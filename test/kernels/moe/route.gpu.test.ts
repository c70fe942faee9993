import { expect, test } from "vitest";
import { bfloat16, float16, float32 } from "../../../src/base/dtype.ts";
import { deviceTargets } from "../../../src/kernels/library.ts";
import { maxGroups } from "../../../src/kernels/moe/plan.ts";
import { routerLogits } from "../../../src/kernels/moe/route.ts";
import { targetNumber } from "../../../src/kernels/target.ts";
import { groupedProduct, route, sortedSlots } from "../../reference/experts.ts";
import {
  bits,
  describeGpu,
  gpu,
  normals,
  output,
  randomArray,
  relativeL2,
  roundingTolerance,
  toNumbers,
  upload,
} from "../../support/gpu.ts";
import { logitsOf, patterns, type RoutingShape, routeOn } from "./routing.ts";

const target = gpu ? targetNumber(deviceTargets(gpu)[0]!) : 0;

/** One block routes and groups up to 128 slots; beyond that a second launch groups. */
const shapes: RoutingShape[] = [
  { tokens: 1, experts: 2, chosen: 1 },
  { tokens: 1, experts: 8, chosen: 2 },
  { tokens: 1, experts: 128, chosen: 8 },
  { tokens: 7, experts: 3, chosen: 3 },
  { tokens: 16, experts: 128, chosen: 8 },
  { tokens: 17, experts: 128, chosen: 8 },
  { tokens: 33, experts: 100, chosen: 7 },
  { tokens: 300, experts: 2, chosen: 1 },
  { tokens: 300, experts: 60, chosen: 4 },
  { tokens: 5, experts: 1000, chosen: 5 },
  { tokens: 211, experts: 1000, chosen: 10 },
];

describeGpu("routing to experts", (device) => {
  for (const shape of shapes) {
    const { tokens, experts, chosen } = shape;
    test.each(patterns)(`${tokens} tokens, ${chosen} of ${experts}, %s`, (pattern) => {
      const logits = logitsOf(pattern, shape, tokens + experts);
      for (const [i, groupRows] of [1, 8, 16, 128].entries()) {
        const normalize = i % 2 === 0;
        const expected = route(logits, experts, chosen, normalize);
        const got = routeOn(device, logits, shape, { groupRows, normalize });
        expect(got.ids.stored()).toEqual(expected.ids);
        // One exponential and one division in float32, and a sum of at most 1000 terms.
        expect(relativeL2(got.weights.numbers(), expected.weights)).toBeLessThan(roundingTolerance(float32));
        const order = sortedSlots(expected.ids);
        expect(got.order.stored()).toEqual(order);
        expect(groupsOf(got.table.stored() as Int32Array)).toEqual(
          expectedGroups(order, expected.ids, groupRows, maxGroups(tokens * chosen, experts, groupRows)),
        );
      }
    });
  }

  test("logits that are not numbers give experts that exist, and weights that show it", () => {
    const shape = { tokens: 3, experts: 40, chosen: 6 };
    const logits = logitsOf("random", shape, 1);
    logits.fill(Number.NaN, 0, 40);
    logits.fill(Number.NEGATIVE_INFINITY, 80, 120);
    const got = routeOn(device, logits, shape, { groupRows: 8 });
    const ids = got.ids.stored() as Int32Array;
    expect([...ids.slice(0, 6)]).toEqual([0, 1, 2, 3, 4, 5]);
    expect([...ids.slice(12)]).toEqual([0, 1, 2, 3, 4, 5]);
    const weights = got.weights.numbers();
    expect(weights.slice(0, 6).every(Number.isNaN)).toBe(true);
    expect(weights.slice(6, 12).every(Number.isFinite)).toBe(true);
  });

  for (const dtype of [float32, float16, bfloat16]) {
    for (const [tokens, experts, cols, kernel] of [
      [1, 8, 64, "gemv"],
      [7, 128, 130, "gemv"],
      [8, 5, 33, "gemv_mma"],
      [21, 60, 520, "gemv_mma"],
      [70, 60, 520, "mma"],
      [130, 128, 64, "mma"],
      [45, 60, 130, "simt"],
    ] as const) {
      const name = `logits of ${tokens} tokens, ${experts} experts, ${cols} wide, before ${kernel}, ${dtype.name}`;
      test.skipIf(kernel === "mma" && (dtype === float32 || target < 80))(
        `${name}: right, and a token's bits are its own`,
        () => {
          const x = randomArray(dtype, tokens * cols, 3);
          const w = randomArray(dtype, experts * cols, 4);
          const all = output(device, float32, tokens * experts);
          const place = { weight: upload(device, w), kernel, experts, cols, dtype };
          routerLogits(device.stream, { logits: all.ptr, x: upload(device, x), tokens, ...place });
          const [xs, ws] = [toNumbers(dtype, x), toNumbers(dtype, w)];
          const shape = { n: experts, k: cols, share: 1 };
          const expected = groupedProduct(xs, ws, new Int32Array(tokens), shape);
          expect(relativeL2(all.numbers(), expected)).toBeLessThan(roundingTolerance(float32, 2));
          const last = output(device, float32, experts);
          const lastX = upload(device, x.slice((tokens - 1) * cols));
          routerLogits(device.stream, { logits: last.ptr, x: lastX, tokens: 1, ...place });
          expect(bits(last.stored())).toEqual(bits(all.stored().slice((tokens - 1) * experts)));
        },
      );
    }
  }

  test("a token's weights are its own, bit for bit", () => {
    const shape = { tokens: 40, experts: 128, chosen: 8 };
    const logits = Float32Array.from(normals(40 * 128, 9));
    for (const normalize of [true, false]) {
      const all = routeOn(device, logits, shape, { groupRows: 8, normalize });
      const one = routeOn(device, logits.slice(39 * 128), { ...shape, tokens: 1 }, { groupRows: 8, normalize });
      expect(bits(one.weights.stored())).toEqual(bits(all.weights.stored().slice(39 * 8)));
    }
  });
});

interface Group {
  expert: number;
  first: number;
  rows: number;
}

function groupsOf(table: Int32Array): Group[] {
  return Array.from({ length: table[0]! }, (_, i) => {
    const [expert, first, rows] = table.subarray(4 * (1 + i));
    return { expert: expert!, first: first!, rows: rows! };
  });
}

function expectedGroups(order: Int32Array, ids: Int32Array, groupRows: number, most: number): Group[] {
  const groups: Group[] = [];
  for (const [place, slot] of order.entries()) {
    const expert = ids[slot]!;
    const last = groups.at(-1);
    if (last?.expert === expert && last.rows < groupRows) last.rows++;
    else groups.push({ expert, first: place, rows: 1 });
  }
  expect(groups.length).toBeLessThanOrEqual(most);
  return groups;
}
