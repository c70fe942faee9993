import { barY, lineY, rectY, ruleX, ruleY, text } from "@observablehq/plot";
import { fourBitLevels } from "../../src/base/four-bit.ts";
import type { Matrix } from "./demo-weights.ts";
import { colors, figure } from "./plot.ts";

const blockSize = 64;

/** NF4's levels are quantiles of a standard normal divided by the outermost, that of 0.9677083. */
const outermost = 1.848;

const bins = 80;

/** Levels, the normal density that they divide, and how the demonstration model's weights are distributed. */
export function nf4Levels(matrices: Iterable<Matrix>): string {
  const shares = sharesOf(matrices, bins, (x) => Math.min(bins - 1, Math.floor(((x + 1) / 2) * bins)));
  const edge = (bin: number) => -1 + (2 * bin) / bins;
  const histogram = shares.map((share, i) => ({ x1: edge(i), x2: edge(i + 1), density: (share * bins) / 2 }));
  const density = (x: number) => (outermost / Math.sqrt(2 * Math.PI)) * Math.exp(-((x * outermost) ** 2) / 2);
  const curve = Array.from({ length: 81 }, (_, i) => ({ x: -1 + i / 40, density: density(-1 + i / 40) }));
  const legend: readonly (readonly [string, string])[] = [
    ["weights of the demonstration model", colors.blue],
    ["normal density", colors.orange],
    ["levels (dashed)", "currentColor"],
  ];
  return figure("NF4's levels, the normal density that they divide, and the demonstration model's weights", {
    marginBottom: 46,
    x: { label: "weight / absmax of its block", domain: [-1.02, 1.02], labelAnchor: "center", labelArrow: "none" },
    y: { label: "density", domain: [0, 1.4], grid: true, labelArrow: "none" },
    marks: [
      rectY(histogram, { x1: "x1", x2: "x2", y: "density", fill: colors.blue, fillOpacity: 0.55, inset: 0.5 }),
      lineY(curve, { x: "x", y: "density", stroke: colors.orange, strokeWidth: 2 }),
      ruleX(fourBitLevels.nf4, {
        y1: 0,
        y2: 1.08,
        stroke: "currentColor",
        strokeOpacity: 0.55,
        strokeDasharray: "2,3",
      }),
      ruleY([0]),
      ...legend.map(([what, fill], i) => text([what], { x: -0.98, y: 1.36 - 0.1 * i, textAnchor: "start", fill })),
    ],
  });
}

/** How often each code is used, against a sixteenth. */
export function nf4Codes(matrices: Iterable<Matrix>): string {
  const levels = fourBitLevels.nf4;
  const midpoints = Array.from(levels.subarray(1), (level, i) => (levels[i]! + level) / 2);
  const codeOf = (x: number) => midpoints.reduce((code, midpoint) => code + Number(x > midpoint), 0);
  const bars = sharesOf(matrices, levels.length, codeOf).map((share, code) => ({ code, percent: 100 * share }));
  return figure("How often the demonstration model's weights have each of NF4's codes", {
    height: 230,
    marginBottom: 46,
    x: { label: "code", labelOffset: 40, labelArrow: "none" },
    y: { label: "% of weights", grid: true, labelArrow: "none" },
    marks: [
      barY(bars, { x: "code", y: "percent", fill: colors.blue, fillOpacity: 0.75 }),
      ruleY([100 / levels.length], { stroke: colors.orange, strokeWidth: 2, strokeDasharray: "6,3" }),
      ruleY([0]),
    ],
  });
}

/** The share of weights, each divided by the largest magnitude of its block, that fall into each of `count` classes. */
function sharesOf(matrices: Iterable<Matrix>, count: number, classOf: (x: number) => number): number[] {
  const counts = new Array<number>(count).fill(0);
  let total = 0;
  for (const { values } of matrices) {
    for (let begin = 0; begin < values.length; begin += blockSize) {
      const block = values.subarray(begin, begin + blockSize);
      const absmax = block.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
      for (const x of block) counts[classOf(absmax === 0 ? 0 : x / absmax)]!++;
    }
    total += values.length;
  }
  return counts.map((n) => n / total);
}
