import { existsSync, statSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { FileError } from "../base/errors.ts";

/** Models that ship inside the package, by the names that stand for them. */
const builtin: Readonly<Record<string, string>> = { demo: "../../models/demo" };

/** The directory that `name` means: a path, or `demo` for the demonstration model. Throws FileError. */
export function resolveModelPath(name: string): string {
  const packaged = builtin[name];
  if (packaged && !existsSync(name)) return fileURLToPath(new URL(packaged, import.meta.url));
  const path = resolve(name);
  if (!existsSync(path)) {
    throw new FileError(
      path,
      `${name}: there is no such directory; give the path of a downloaded model, or "demo" for the one that comes with llcuda`,
    );
  }
  if (!statSync(path).isDirectory()) {
    throw new FileError(path, `${name}: this is a file; give the directory that holds config.json and the weights`);
  }
  return path;
}
