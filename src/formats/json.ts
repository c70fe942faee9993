import { closeSync, constants, fstatSync, openSync, readFileSync } from "node:fs";
import { FileError, FormatError } from "../base/errors.ts";

export type JsonObject = { readonly [key: string]: unknown };

/** The largest JSON document that is read from a checkpoint: the limit that safetensors sets for its own header. */
export const maxJsonBytes = 100_000_000;

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** How a JSON value reads in an error message: short, on one line. */
export function describeJson(value: unknown): string {
  if (value === undefined) return "nothing";
  const text = Array.isArray(value) && value.length > 8 ? `an array of ${value.length}` : JSON.stringify(value);
  return text.length <= 60 ? text : `${text.slice(0, 57)}...`;
}

/**
 * Parses UTF-8 bytes as one JSON object, refusing what JSON.parse would hide: malformed UTF-8 and keys that occur twice.
 * `file` and `byteOffset` (of `bytes` within it) say where in the FormatError that this throws.
 */
export function parseJsonObject(bytes: Uint8Array, file: string, what: string, byteOffset = 0): JsonObject {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new FormatError(file, `${file}: ${what} is not UTF-8 text; download the file again`, { cause, byteOffset });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.replaceAll(/\s+/g, " ").slice(0, 120) : "malformed";
    throw new FormatError(file, `${file}: ${what} is not valid JSON (${reason})`, { cause, byteOffset });
  }
  if (!isJsonObject(value)) {
    const found = Array.isArray(value) ? "an array" : value === null ? "null" : `a ${typeof value}`;
    throw new FormatError(file, `${file}: ${what} must be a JSON object, got ${found}`, { byteOffset });
  }
  const duplicate = findDuplicateKey(text);
  if (duplicate) {
    const at = byteOffset + new TextEncoder().encode(text.slice(0, duplicate.index)).length;
    throw new FormatError(file, `${file}: ${what} has the key ${describeJson(duplicate.key)} twice`, {
      byteOffset: at,
    });
  }
  return value;
}

/** Finds the first key that its object already holds. `text` must be valid JSON, so quotes and brackets can be trusted. */
function findDuplicateKey(text: string): { key: string; index: number } | undefined {
  const objects: (Set<string> | undefined)[] = []; // one entry per open bracket; undefined for arrays
  let stringStart = 0;
  let stringEnd = 0; // the last string literal, quotes included: a key when a colon follows it
  for (let i = 0; i < text.length; i++) {
    switch (text.charCodeAt(i)) {
      case 0x22: // "
        stringStart = i;
        for (i++; text.charCodeAt(i) !== 0x22; i++) if (text.charCodeAt(i) === 0x5c) i++;
        stringEnd = i + 1;
        break;
      case 0x3a: {
        const written = text.slice(stringStart + 1, stringEnd - 1);
        const key: string = written.includes("\\") ? JSON.parse(`"${written}"`) : written;
        const keys = objects.at(-1)!;
        if (keys.has(key)) return { key, index: stringStart };
        keys.add(key);
        break;
      }
      case 0x7b: // {
        objects.push(new Set());
        break;
      case 0x5b: // [
        objects.push(undefined);
        break;
      case 0x7d:
      case 0x5d:
        objects.pop();
        break;
    }
  }
  return undefined;
}

/** Reads a JSON object from a file. Throws FileError when it cannot be read, FormatError when it is not what it should be. */
export function readJsonFile(path: string, what: string): JsonObject {
  return parseJsonObject(readSmallFile(path, what), path, what);
}

/** Like `readJsonFile`, but a file that does not exist gives undefined. */
export function readOptionalJsonFile(path: string, what: string): JsonObject | undefined {
  const bytes = readOptionalSmallFile(path, what);
  return bytes && parseJsonObject(bytes, path, what);
}

export function readSmallFile(path: string, what: string): Uint8Array {
  const bytes = readOptionalSmallFile(path, what);
  if (!bytes) throw new FileError(path, `${path}: ${what} does not exist`);
  return bytes;
}

/** Opens a file for reading, without waiting: a pipe that nobody writes to must not hold everything up before it is refused. */
export function openToRead(path: string): number {
  return openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
}

/** The bytes of a file of at most `maxJsonBytes`, or undefined when there is none. */
export function readOptionalSmallFile(path: string, what: string): Uint8Array | undefined {
  let fd: number;
  try {
    fd = openToRead(path);
  } catch (cause) {
    if (isMissing(cause)) return undefined;
    throw new FileError(path, `${path}: ${what} cannot be opened (${reasonOf(cause)})`, { cause });
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw new FileError(path, `${path}: ${what} must be a file, but it is not a regular one`);
    if (stat.size > maxJsonBytes) {
      throw new FormatError(path, `${path}: ${what} has ${stat.size} bytes, more than the limit of ${maxJsonBytes}`);
    }
    return readFileSync(fd);
  } catch (cause) {
    if (cause instanceof FileError || cause instanceof FormatError) throw cause;
    throw new FileError(path, `${path}: ${what} cannot be read (${reasonOf(cause)})`, { cause });
  } finally {
    closeSync(fd);
  }
}

export function isMissing(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  return code === "ENOENT" || code === "ENOTDIR";
}

/** The system's name for what went wrong (`EACCES`), or its message. */
export function reasonOf(error: unknown): string {
  const e = error as NodeJS.ErrnoException;
  return e?.code ?? e?.message ?? String(error);
}
