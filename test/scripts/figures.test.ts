import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { drawFigures } from "../../scripts/figures/draw.ts";

test("the figures of docs/kernels are those that npm run figures draws", async () => {
  const folder = new URL("../../docs/kernels/figures/", import.meta.url);
  const drawn = await drawFigures();
  expect(readdirSync(folder).sort()).toEqual(Object.keys(drawn).sort());
  for (const [name, svg] of Object.entries(drawn)) expect(readFileSync(new URL(name, folder), "utf8")).toBe(svg);
});
