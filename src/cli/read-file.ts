import { readFileSync } from "node:fs";
import { FileError } from "../base/errors.ts";

/** A file's bytes, or what `decode` makes of them. Throws FileError, also for what `decode` throws. */
export function readFile<T = Uint8Array>(path: string, decode?: (bytes: Uint8Array) => T): T {
  try {
    const bytes = new Uint8Array(readFileSync(path));
    return decode ? decode(bytes) : (bytes as T);
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === "ENOENT";
    const problem = missing ? "there is no such file" : `the file cannot be read (${(cause as Error).message})`;
    throw new FileError(path, `${path}: ${problem}`, { cause });
  }
}

/** The text of a UTF-8 file. Throws FileError. */
export function readText(path: string): string {
  const bytes = readFile(path);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new FileError(path, `${path}: it is not UTF-8 text`, { cause });
  }
}
