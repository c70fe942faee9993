import { dot, line, text } from "@observablehq/plot";
import { colors, figure } from "./plot.ts";
import type { TypeLoss, TypeLosses } from "./type-losses.ts";

/** Where a label goes that would lie on another one: how far from its point, in pixels, and which end of it is there. */
const places: Readonly<Record<string, readonly [dx: number, dy: number, anchor?: "start" | "middle" | "end"]>> = {
  "NF4 / 64": [2, -11],
  "NF4 (dq)": [-8, 5, "end"],
  Q4_0: [-7, 9, "end"],
  Q5_K: [7, 9],
  Q4_K: [7, 5],
  Q4_1: [7, 8],
};

/** Bits a weight against error, with what no type can do better for independent normal weights: 2^-bits. */
export function typeErrors({ nf4, codes, blocks }: TypeLosses): string {
  const at = { x: "bits", y: "error" } as const;
  const limit = [2.45, 8.38].map((bits) => ({ bits, error: 2 ** -bits }));
  const labels = (points: readonly TypeLoss[], fill: string) =>
    points.map((point) => {
      const [dx, dy, textAnchor = "start"] = places[point.type] ?? [7, -2];
      return text([point], { ...at, text: "type", textAnchor, dx, dy, fill });
    });
  return figure("Relative error and bits a weight of quantized types, on the demonstration model", {
    height: 420,
    marginLeft: 56,
    marginBottom: 46,
    x: { label: "bits a weight", domain: [2.3, 9], labelAnchor: "center", labelArrow: "none" },
    y: {
      label: "relative L2 error",
      type: "log",
      domain: [0.003, 0.4],
      grid: true,
      ticks: [0.003, 0.01, 0.03, 0.1, 0.3],
      tickFormat: String,
      labelArrow: "none",
    },
    marks: [
      line(limit, { ...at, stroke: colors.grey, strokeDasharray: "4,4" }),
      text(["2^-bits: the limit for normal weights"], { x: 6, y: 2 ** -6.35, textAnchor: "end", fill: colors.grey }),
      line(nf4, { ...at, stroke: colors.orange, strokeOpacity: 0.6 }),
      dot([...nf4, ...codes], { ...at, fill: colors.orange, r: 3.5 }),
      dot(blocks, { ...at, fill: colors.blue, r: 3.5 }),
      ...labels([...nf4.slice(0, 2), ...nf4.slice(-1), ...codes], colors.orange),
      ...labels(blocks, colors.blue),
    ],
  });
}
