import { readdirSync, statSync } from "node:fs";
import { FileError } from "../base/errors.ts";
import { isMissing, reasonOf } from "./json.ts";

/** Checks that `path` is a directory that can be listed and returns its entries. Throws FileError with one clear sentence. */
export function listDirectory(path: string): string[] {
  try {
    if (!statSync(path).isDirectory()) {
      throw new FileError(path, `${path}: expected a model directory with a config.json, but this is a file`);
    }
    return readdirSync(path);
  } catch (cause) {
    if (cause instanceof FileError) throw cause;
    if (isMissing(cause)) {
      throw new FileError(path, `${path}: there is no such directory; give the path of a downloaded model`, { cause });
    }
    throw new FileError(path, `${path}: the directory cannot be read (${reasonOf(cause)})`, { cause });
  }
}
