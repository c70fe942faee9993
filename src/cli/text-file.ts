import { readFileSync } from "node:fs";
import { FileError } from "../base/errors.ts";

/** The text of a UTF-8 file. Throws FileError. */
export function readText(path: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(path));
  } catch (cause) {
    const reason =
      cause instanceof TypeError ? "it is not UTF-8 text" : `it cannot be read (${(cause as Error).message})`;
    throw new FileError(path, `${path}: ${reason}`, { cause });
  }
}
