/** The shipped kernels use no instruction form that is not compared with hardware. */
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { brotliDecompressSync } from "node:zlib";
import { expect, test } from "vitest";
import { allCases } from "./instructions/catalogue/index.ts";
import { kernelText } from "./instructions/kernel.ts";

const folder = fileURLToPath(new URL("../../ptx/", import.meta.url));
const spaces = ["global", "shared", "local", "param", "const"];

/** Instructions of PTX text. Loads and stores count by vector and type: how they are cached changes no result. */
function forms(text: string): Set<string> {
  const found = new Set<string>();
  for (const [, opcode] of text.matchAll(/(?:^|[;\s])([a-z]\w*(?:\.[\w:]+)+)(?=[\s;])/gm)) {
    const [name = "", ...modifiers] = opcode!.split(".");
    if (name !== "ld" && name !== "st") found.add(opcode!);
    else {
      const width = modifiers.filter((m) => /^(v[24]|[busf]\d+)$/.test(m));
      found.add([name, ...width].join("."));
      found.add(`${name}.${modifiers.find((m) => spaces.includes(m)) ?? "generic"}`);
    }
  }
  return found;
}

test("every instruction of the shipped kernels below sm_90 is in the catalogue", () => {
  const tested = forms(allCases.map(kernelText).join("\n"));
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((file) =>
    /sm_[678]\d\.ptx\.br$/.test(file),
  );
  const missing = new Map<string, string>();
  for (const file of files) {
    for (const form of forms(brotliDecompressSync(readFileSync(folder + file)).toString())) {
      if (!tested.has(form)) missing.set(form, file);
    }
  }
  expect(files.length).toBeGreaterThan(50);
  // Add what is here to test/sim/instructions/catalogue, and record hardware's answers with `npm run sim:record`.
  expect([...missing]).toEqual([]);
});
