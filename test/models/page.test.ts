import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { shapeConfig, shapeNames } from "../../bench/support/shapes.ts";
import { architectures } from "../../src/models/architectures.ts";

// What docs/models.md says in numbers and names, against the sources.

const root = new URL("../../", import.meta.url);
const read = (path: string) => readFileSync(new URL(path, root), "utf8");
const linesOf = (path: string) => read(path).trimEnd().split("\n");
const page = read("docs/models.md");
/** The cells of every table row whose first cell matches. */
const rows = (first: RegExp) =>
  page
    .split("\n")
    .map((line) => line.split("|").map((cell) => cell.trim()))
    .filter((cells) => first.test(cells[1] ?? ""))
    .map((cells) => cells.slice(1, -1));

test("how long the model files are, and how much of each is not in llama.ts", () => {
  const llama = new Set(linesOf("src/models/llama.ts"));
  const files = rows(/^`models\/.*\.ts`$/);
  expect(files.length).toBeGreaterThan(3);
  for (const [name, lines, other] of files as [string, string, string][]) {
    const source = linesOf(`src/${name.slice(1, -1)}`);
    expect([name, lines]).toEqual([name, String(source.length)]);
    if (other) expect([name, other]).toEqual([name, String(source.filter((line) => !llama.has(line)).length)]);
  }
});

test("every architecture has its row", () => {
  for (const { name } of architectures) expect(page).toContain(`| \`${name}\``);
});

test("the shapes", () => {
  const described = rows(/^`[a-z0-9.-]+`$/).filter(([name]) => shapeNames.includes(name!.slice(1, -1)));
  expect(described.map(([name]) => name!.slice(1, -1)).sort()).toEqual([...shapeNames].sort());
  for (const [name, layers, c, , h, g, d, v, context] of described as string[][]) {
    const config = shapeConfig(name!.slice(1, -1));
    const numbers = [
      config.numHiddenLayers,
      config.hiddenSize,
      config.numAttentionHeads,
      config.numKeyValueHeads,
      config.headDim,
      config.vocabSize,
      config.maxPositionEmbeddings,
    ];
    expect([name, layers, c, h, g, d, v, context]).toEqual([name, ...numbers.map(String)]);
  }
});
