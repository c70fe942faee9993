import { expect, test } from "vitest";
import { bfloat16, type DType, float16, float32, int32 } from "../../../src/base/dtype.ts";
import { deviceTargets } from "../../../src/kernels/library.ts";
import { routerLogits } from "../../../src/kernels/moe/route.ts";
import { canRouteOne, routeOne } from "../../../src/kernels/moe/route-one.ts";
import { rmsNorm } from "../../../src/kernels/rms-norm/rms-norm.ts";
import { targetNumber } from "../../../src/kernels/target.ts";
import { bits, describeGpu, gpu, output, randomArray, upload } from "../../support/gpu.ts";
import { routeOn } from "./routing.ts";

const target = gpu ? targetNumber(deviceTargets(gpu)[0]!) : 0;

interface Layer {
  readonly experts: number;
  readonly chosen: number;
  readonly cols: number;
  readonly normalize: boolean;
}

const layers: Layer[] = [
  { experts: 128, chosen: 8, cols: 2048, normalize: true },
  { experts: 8, chosen: 2, cols: 4096, normalize: true },
  { experts: 60, chosen: 4, cols: 512, normalize: false },
  { experts: 5, chosen: 5, cols: 1024, normalize: true },
  { experts: 513, chosen: 32, cols: 1536, normalize: false },
  { experts: 1000, chosen: 10, cols: 8192, normalize: true },
];

describeGpu("one token's way to its experts in one launch", (device) => {
  for (const dtype of [float16, bfloat16]) {
    for (const layer of layers) {
      const { experts, chosen, cols, normalize } = layer;
      for (const normed of [false, true]) {
        const name = `${chosen} of ${experts}, ${cols} wide, ${dtype.name}${normed ? ", normed before" : ""}`;
        test.skipIf(target < 90)(`${name}: the bits of the launches one by one`, () => {
          const x = randomArray(dtype, cols, 1);
          const router = upload(device, randomArray(dtype, experts * cols, 2));
          const weight = upload(device, randomArray(dtype, cols, 3));
          const norm = { weight, eps: 1e-6, weightOffset: 1 };
          expect(canRouteOne(device, { router, experts, chosen, cols, dtype })).toBe(true);

          const y = output(device, dtype, cols, normed ? x : undefined);
          const from = upload(device, x);
          if (!normed) rmsNorm(device.stream, { out: y.ptr, x: from, rows: 1, cols, dtype, ...norm });
          const logits = output(device, float32, experts);
          const product = { logits: logits.ptr, x: y.ptr, weight: router, kernel: "gemv", tokens: 1 } as const;
          routerLogits(device.stream, { ...product, experts, cols, dtype });
          const shape = { tokens: 1, experts, chosen };
          const expected = routeOn(device, logits.stored() as Float32Array, shape, { groupRows: 8, normalize });

          const out = output(device, dtype, cols);
          const ids = output(device, int32, chosen);
          const weights = output(device, float32, chosen);
          const order = output(device, int32, chosen);
          const table = output(device, int32, 4 * (1 + chosen));
          routeOne(device.stream, {
            ids: ids.ptr,
            weights: weights.ptr,
            order: order.ptr,
            table: table.ptr,
            x: from,
            ...(!normed && { norm: { ...norm, out: out.ptr } }),
            router,
            experts,
            chosen,
            cols,
            normalize,
            dtype,
          });
          if (!normed) expect(bits(out.stored())).toEqual(bits(y.stored()));
          expect(ids.stored()).toEqual(expected.ids.stored());
          expect(bits(weights.stored())).toEqual(bits(expected.weights.stored()));
          expect(order.stored()).toEqual(expected.order.stored());
          expect(table.stored()).toEqual(expected.table.stored());
        });
      }
    }
  }

  test.skipIf(target < 90)("NaN chooses experts that exist", () => {
    const [experts, chosen, cols] = [128, 8, 1024];
    const x = randomArray(bfloat16, cols, 1);
    (x as Uint16Array)[5] = 0x7fc0;
    const ids = output(device, int32, chosen);
    const weights = output(device, float32, chosen);
    const order = output(device, int32, chosen);
    const table = output(device, int32, 4 * (1 + chosen));
    routeOne(device.stream, {
      ids: ids.ptr,
      weights: weights.ptr,
      order: order.ptr,
      table: table.ptr,
      x: upload(device, x),
      router: upload(device, randomArray(bfloat16, experts * cols, 2)),
      experts,
      chosen,
      cols,
      normalize: true,
      dtype: bfloat16,
    });
    expect([...(ids.stored() as Int32Array)]).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(weights.numbers().every(Number.isNaN)).toBe(true);
  });

  test("what it does not take goes the long way", () => {
    const router = upload(device, randomArray(float32, 4, 1));
    const layer = { router, experts: 128, chosen: 8, cols: 2048, dtype: bfloat16 as DType };
    expect(canRouteOne(device, layer)).toBe(target >= 90);
    expect(canRouteOne(device, { ...layer, dtype: float32 })).toBe(false);
    expect(canRouteOne(device, { ...layer, cols: 2056 })).toBe(false);
    expect(canRouteOne(device, { ...layer, cols: 8704 })).toBe(false);
    expect(canRouteOne(device, { ...layer, experts: 1025 })).toBe(false);
    expect(canRouteOne(device, { ...layer, chosen: 33 })).toBe(false);
  });
});
