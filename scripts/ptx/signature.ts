import { argLayout } from "../../src/kernels/arguments.ts";
import type { ArgSpec } from "../../src/kernels/spec.ts";

/** Size and kind of each parameter, as both sides spell it: `8`, `4`, `f4`, `128`. */
function specParameters(args: ArgSpec): string[] {
  return argLayout(args).fields.map(({ type, bytes }) => (type === "f32" ? "f4" : String(bytes)));
}

function textParameters(text: string, symbol: string): string[] | undefined {
  const entry = new RegExp(`\\.entry ${symbol}\\s*\\(([^)]*)\\)`).exec(text)?.[1];
  if (entry === undefined)
    return /\.entry\s+(\w+)\s*$/m.test(text) || text.includes(`.entry ${symbol}`) ? [] : undefined;
  return entry
    .split(",")
    .map((p) => p.trim())
    .filter((p) => p !== "")
    .map((p) => {
      const array = /\.b8\s+\w+\[(\d+)\]/.exec(p);
      if (array) return array[1]!;
      const [, kind, bits] = /\.param\s+(?:\.align\s+\d+\s+)?\.([a-z])(\d+)/.exec(p)!;
      return kind === "f" ? `f${Number(bits) / 8}` : `${Number(bits) / 8}`;
    });
}

/**
 * Compares the entry point's parameters with the specification's. Returns what is wrong, or undefined.
 * This is what keeps a launcher from passing arguments that the kernel reads differently.
 */
export function signatureFault(text: string, symbol: string, args: ArgSpec): string | undefined {
  const found = textParameters(text, symbol);
  if (found === undefined) return `defines no entry point "${symbol}"; write it through the KERNEL_NAME macro`;
  const wanted = specParameters(args);
  if (found.join() === wanted.join()) return undefined;
  return `takes parameters of (${found.join(", ")}) bytes, and the specification says (${wanted.join(", ")})`;
}
