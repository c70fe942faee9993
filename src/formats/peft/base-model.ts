import { existsSync } from "node:fs";
import { isAbsolute, join, resolve } from "node:path";
import { FileError } from "../../base/errors.ts";
import type { AdapterConfig } from "./adapter-config.ts";

/**
 * The path of the model that an adapter belongs to: `override` when it is given, else base_model_name_or_path, which is looked for
 * as it stands or relative to the adapter's directory. Throws FileError when there is no such model here.
 */
export function findBaseModel(directory: string, { baseModel, file }: AdapterConfig, override?: string): string {
  if (override !== undefined) return override;
  if (baseModel === undefined) {
    throw new FileError(file, `${file}: base_model_name_or_path is missing; say which model it belongs to with --base`);
  }
  const candidates = isAbsolute(baseModel) ? [baseModel] : [join(resolve(directory), baseModel), resolve(baseModel)];
  const found = candidates.find((path) => existsSync(path));
  if (found) return found;
  throw new FileError(
    file,
    `${file}: its base model "${baseModel}" is not at ${candidates.join(" or ")}; download it and give its path with --base`,
  );
}
