/**
 * Recorded results of hardware, in one compressed file. For each case: the results of the first rows as they are, and for
 * those that must be equal a hash of every 512 rows.
 */
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { brotliCompressSync, brotliDecompressSync, constants } from "node:zlib";
import type { InstructionCase } from "./case.ts";
import { kernelText, resultBytes } from "./kernel.ts";
import { operandsOf, rowCount } from "./operands.ts";

const hashedRows = 512;
const hashBytes = 4;

/**
 * Rows whose results are kept: whole warps. Where results are equal the hashes prove it for all rows, and one warp is there
 * for a readable first difference; where they have a bound, these rows are what says that hardware keeps to it.
 */
export function keptRows({ bound }: InstructionCase): number {
  return bound ? 128 : 32;
}

export interface Answer {
  /** Results of the first rows, by output. */
  readonly kept: readonly Uint8Array[];
  readonly hashes: Uint8Array;
}

/** Where the answers are from. */
export interface Provenance {
  readonly gpu: string;
  readonly driver: string;
  readonly date: string;
}

interface Index extends Provenance {
  /** In the order of their answers, with the bytes that those take. */
  readonly cases: readonly { readonly name: string; readonly key: string; readonly bytes: number }[];
}

/** Changes when a case's kernel or operands do: then its answers are of another question. */
export function caseKey(instruction: InstructionCase): string {
  const hash = createHash("sha256").update(kernelText(instruction));
  for (const operand of operandsOf(instruction.inputs)) hash.update(operand);
  return hash.digest("hex").slice(0, 8);
}

/** The hash of every 512 rows of all results together. */
export function hashRows(instruction: InstructionCase, results: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array((rowCount / hashedRows) * hashBytes);
  for (let first = 0, at = 0; first < rowCount; first += hashedRows, at += hashBytes) {
    const hash = createHash("sha256");
    results.forEach((result, i) => {
      const bytes = resultBytes(instruction.outputs[i]!);
      hash.update(result.subarray(first * bytes, (first + hashedRows) * bytes));
    });
    out.set(hash.digest().subarray(0, hashBytes), at);
  }
  return out;
}

/** The first row of a group of 512 whose hashes differ. */
export function differingRows(a: Uint8Array, b: Uint8Array): number | undefined {
  const at = a.findIndex((byte, i) => byte !== b[i]);
  return at < 0 ? undefined : Math.floor(at / hashBytes) * hashedRows;
}

/** Returns the size of the file. */
export function writeAnswers(
  path: string,
  from: Provenance,
  answers: readonly { readonly instruction: InstructionCase; readonly results: readonly Uint8Array[] }[],
): number {
  const parts: Uint8Array[] = [];
  const cases = answers.map(({ instruction, results }) => {
    const rows = keptRows(instruction);
    const own = results.map((result, i) => result.subarray(0, rows * resultBytes(instruction.outputs[i]!)));
    if (!instruction.bound) own.push(hashRows(instruction, results));
    parts.push(...own);
    const bytes = own.reduce((sum, part) => sum + part.byteLength, 0);
    return { name: instruction.name, key: caseKey(instruction), bytes };
  });
  const head = new TextEncoder().encode(JSON.stringify({ ...from, cases } satisfies Index));
  const size = new Uint8Array(Uint32Array.of(head.byteLength).buffer);
  const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_LGWIN]: 24 };
  const file = brotliCompressSync(Buffer.concat([size, head, ...parts]), { params });
  writeFileSync(path, file);
  return file.byteLength;
}

export interface Answers extends Provenance {
  /** Undefined when the case was not recorded, or has changed since. */
  of(instruction: InstructionCase): Answer | undefined;
}

/** Reads a file of answers. Cases that are no longer in the catalogue as they were are passed over. */
export function readAnswers(path: string, catalogue: readonly InstructionCase[]): Answers {
  const bytes = brotliDecompressSync(readFileSync(path));
  const headBytes = bytes.readUInt32LE(0);
  const { cases, ...from }: Index = JSON.parse(bytes.subarray(4, 4 + headBytes).toString());
  const known = new Map(catalogue.map((instruction) => [instruction.name, instruction]));
  const found = new Map<string, Answer>();
  let at = 4 + headBytes;
  for (const { name, key, bytes: length } of cases) {
    const own = bytes.subarray(at, at + length);
    at += length;
    const instruction = known.get(name);
    if (!instruction || caseKey(instruction) !== key) continue;
    const rows = keptRows(instruction);
    let used = 0;
    const kept = instruction.outputs.map((result) => {
      const first = used;
      used += rows * resultBytes(result);
      return own.subarray(first, used);
    });
    found.set(name, { kept, hashes: own.subarray(used) });
  }
  return { ...from, of: (instruction) => found.get(instruction.name) };
}
