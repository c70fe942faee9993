import { readdirSync, readFileSync } from "node:fs";
import { dirname, posix } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

/** Folders of `src` in dependency order: each imports from itself and from those before it. */
const order = [
  "base",
  "formats",
  "ffi",
  "driver",
  "sim",
  "kernels",
  "tensor",
  "parallel",
  "nn",
  "models",
  "engine",
  "serve",
  "cli",
];
/** Neighbours in the order that must not know each other all the same. */
const strangers: Record<string, string[]> = {
  ffi: ["formats"],
  driver: ["formats"],
  sim: ["formats"],
  kernels: ["formats"],
};

const root = fileURLToPath(new URL("../src/", import.meta.url));
const files = readdirSync(root, { recursive: true, encoding: "utf8" })
  .map((path) => path.replaceAll("\\", "/"))
  .filter((path) => path.endsWith(".ts"));

/** Relative imports and re-exports of a file, as paths below `src`. */
function imports(file: string): string[] {
  const text = readFileSync(`${root}${file}`, "utf8");
  const found = text.matchAll(/(?:\bfrom\s+|\bimport\s*\(?\s*)"(\.[^"]+)"/g);
  return [...found].map(([, path]) => posix.join(dirname(file), path!));
}

test("every folder of src has a place in the order", () => {
  const folders = new Set(files.filter((f) => f.includes("/")).map((f) => f.split("/")[0]!));
  expect([...folders].filter((f) => !order.includes(f))).toEqual([]);
});

test("a folder imports only from itself and from those before it", () => {
  const faults: string[] = [];
  for (const file of files.filter((f) => f.includes("/"))) {
    const from = file.split("/")[0]!;
    for (const path of imports(file)) {
      const to = path.split("/")[0]!;
      const upward = !order.includes(to) || order.indexOf(to) > order.indexOf(from);
      if (upward || strangers[from]?.includes(to)) faults.push(`src/${file} imports src/${path}`);
    }
  }
  expect(faults).toEqual([]);
});
