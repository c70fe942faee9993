import { type Code, unsigned } from "./code.ts";
import { type ValueType, valueTypes } from "./opcodes.ts";

export interface ImportedFunction {
  readonly name: string;
  readonly parameters: readonly ValueType[];
  readonly result: ValueType | undefined;
}

const textEncoder = new TextEncoder();

/**
 * A WebAssembly module of functions over one imported memory (`env.memory`, shared between threads or not) and one
 * imported i32 (`env.base`). Imported functions come first in the index space, in order; then those added. Functions
 * with an export name are exported under it.
 */
export function encodeModule(
  imports: readonly ImportedFunction[],
  functions: readonly { readonly code: Code; readonly exportName?: string | undefined }[],
  limits: { readonly maximumPages: number; readonly shared: boolean },
): Uint8Array<ArrayBuffer> {
  const types: number[][] = [];
  const typeIndex = new Map<string, number>();
  const typeOf = (parameters: readonly ValueType[], result: ValueType | undefined): number => {
    const key = `${parameters}>${result}`;
    const known = typeIndex.get(key);
    if (known !== undefined) return known;
    const bytes = [0x60];
    unsigned(bytes, parameters.length);
    for (const parameter of parameters) bytes.push(valueTypes[parameter]);
    if (result === undefined) bytes.push(0);
    else bytes.push(1, valueTypes[result]);
    typeIndex.set(key, types.length);
    return types.push(bytes) - 1;
  };

  const importEntries: number[][] = [];
  const memory = [...name("env"), ...name("memory"), 2, limits.shared ? 3 : 1];
  unsigned(memory, 0);
  unsigned(memory, limits.maximumPages);
  importEntries.push(memory);
  importEntries.push([...name("env"), ...name("base"), 3, valueTypes.i32, 0]);
  for (const imported of imports) {
    const entry = [...name("env"), ...name(imported.name), 0];
    unsigned(entry, typeOf(imported.parameters, imported.result));
    importEntries.push(entry);
  }
  const signatures = functions.map(({ code }) => {
    const bytes: number[] = [];
    unsigned(bytes, typeOf(code.parameters, code.result));
    return bytes;
  });
  const exported = functions.flatMap(({ exportName }, i) => {
    if (exportName === undefined) return [];
    const entry = [...name(exportName), 0];
    unsigned(entry, imports.length + i);
    return [entry];
  });
  const bodies = functions.map(({ code }) => {
    const head: number[] = [];
    unsigned(head, code.locals.length);
    for (const local of code.locals) head.push(1, valueTypes[local]);
    const size: number[] = [];
    unsigned(size, head.length + code.bytes.length + 1);
    return [Uint8Array.from([...size, ...head]), Uint8Array.from(code.bytes), Uint8Array.of(0x0b)];
  });

  const parts: Uint8Array[] = [Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0)];
  const section = (id: number, entries: readonly Uint8Array[], count: number): void => {
    const countBytes: number[] = [];
    unsigned(countBytes, count);
    const size = entries.reduce((sum, entry) => sum + entry.length, countBytes.length);
    const head = [id];
    unsigned(head, size);
    parts.push(Uint8Array.from([...head, ...countBytes]), ...entries);
  };
  const plain = (entries: readonly number[][]): Uint8Array[] => entries.map((entry) => Uint8Array.from(entry));
  section(1, plain(types), types.length);
  section(2, plain(importEntries), importEntries.length);
  section(3, plain(signatures), signatures.length);
  section(7, plain(exported), exported.length);
  section(10, bodies.flat(), bodies.length);

  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function name(text: string): number[] {
  const bytes = textEncoder.encode(text);
  return [bytes.length, ...bytes];
}
