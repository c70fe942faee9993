/**
 * Draws the figures of docs/kernels from the demonstration model: npm run figures (`-- --check` compares with what is there).
 * The software device quantizes and dequantizes, so that every machine draws the same. Exit code 1 when a figure is stale.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { drawFigures } from "./figures/draw.ts";

const folder = fileURLToPath(new URL("../docs/kernels/figures/", import.meta.url));
const { values } = parseArgs({ options: { check: { type: "boolean", default: false } } });
mkdirSync(folder, { recursive: true });
for (const [name, svg] of Object.entries(await drawFigures())) {
  const path = `${folder}${name}`;
  if (!values.check) writeFileSync(path, svg);
  else if (readFileSync(path, "utf8") !== svg) {
    console.error(`${path} is stale: run npm run figures`);
    process.exitCode = 1;
  }
}
