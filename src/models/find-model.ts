import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { FileError } from "../base/errors.ts";
import { findModelFiles, type ModelFiles } from "../formats/model-files/model-files.ts";

/** Models that ship inside the package, by the names that stand for them. */
const builtin: Readonly<Record<string, string>> = { demo: "../../models/demo" };

/**
 * The files of the model that `name` means: a directory with a checkpoint or a GGUF model, a `.gguf` file, or `demo` for the
 * demonstration model. Throws FileError, ArgumentError.
 */
export function findModel(name: string): ModelFiles {
  const packaged = Object.hasOwn(builtin, name) ? builtin[name] : undefined;
  if (packaged && !existsSync(name)) return findModelFiles(fileURLToPath(new URL(packaged, import.meta.url)));
  const path = resolve(name);
  if (existsSync(path)) return findModelFiles(path);
  throw new FileError(
    path,
    `${name}: there is no such directory or file; give the path of a downloaded model, or "demo" for the one that comes with llcuda`,
  );
}
