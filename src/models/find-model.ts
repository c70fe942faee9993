import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { ArgumentError, FileError } from "../base/errors.ts";
import { AdapterFiles, isAdapter } from "../formats/model-files/adapter.ts";
import { findModelFiles, type ModelFiles } from "../formats/model-files/model-files.ts";
import { readAdapterConfig } from "../formats/peft/adapter-config.ts";
import { findBaseModel } from "../formats/peft/base-model.ts";

/** Models that ship inside the package, by the names that stand for them. */
const builtin: Readonly<Record<string, string>> = { demo: "../../models/demo" };

/**
 * The files of the model that `name` means: a directory with a checkpoint, a GGUF model or a LoRA adapter, a `.gguf` file, or
 * `demo` for the demonstration model. The base of an adapter is what its config says, or `base`, which is a name like `name`.
 * Throws FileError, ArgumentError.
 */
export function findModel(name: string, base?: string): ModelFiles {
  const packaged = Object.hasOwn(builtin, name) ? builtin[name] : undefined;
  if (packaged && !existsSync(name)) return findModelFiles(fileURLToPath(new URL(packaged, import.meta.url)));
  const path = resolve(name);
  if (existsSync(path)) {
    if (!isAdapter(path)) return findModelFiles(path);
    return new AdapterFiles(path, findModel(findBaseModel(path, readAdapterConfig(path), base)));
  }
  throw new FileError(
    path,
    `${name}: there is no such directory or file; give the path of a downloaded model, or "demo" for the one that comes with llcuda`,
  );
}

/**
 * As `findModel`, with `adapter`, a PEFT adapter's directory, on the model `name`. Throws ArgumentError for an adapter on an
 * adapter, FileError.
 */
export function findModelWithAdapter(
  name: string,
  { adapter, base }: { readonly adapter?: string | undefined; readonly base?: string | undefined },
): ModelFiles {
  const model = findModel(name, base);
  if (adapter === undefined) {
    if (base === undefined || model.adapter !== undefined) return model;
    throw new ArgumentError(`${name}: a base was given, but this is a model of its own and no adapter`);
  }
  if (model.adapter !== undefined) {
    throw new ArgumentError(`${name}: this is an adapter already; give its base, and load both with loadAdapter`);
  }
  const directory = resolve(adapter);
  readAdapterConfig(directory); // throws where there is none
  return new AdapterFiles(directory, model);
}
