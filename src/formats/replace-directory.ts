import { existsSync, readdirSync, realpathSync, renameSync, rmdirSync, rmSync, statSync } from "node:fs";
import { basename, dirname, join, resolve, sep } from "node:path";
import { ArgumentError, FileError } from "../base/errors.ts";
import { isMissing, reasonOf } from "./json.ts";
import { makeDirectories, systemErrors } from "./replace-file.ts";

export interface OverwriteOptions {
  /** Replaces what is there; a folder only when it holds a model. */
  readonly force?: boolean | undefined;
  /** What is being read, which must survive. */
  readonly source?: string | readonly string[] | undefined;
}

/**
 * Fills a folder beside `path` and gives it that name when `write` has succeeded, so that nobody ever sees half of it.
 * Throws ArgumentError when `path` must not be replaced (checkDestination), FileError.
 */
export async function replaceDirectory(
  path: string,
  options: OverwriteOptions,
  write: (directory: string) => Promise<void>,
): Promise<void> {
  checkDestination(path, "directory", options);
  const target = resolve(path);
  const beside = (kind: string) => join(dirname(target), `.${basename(target)}.${process.pid}.${kind}`);
  const [fresh, old] = [beside("tmp"), beside("old")];
  let uppermost: string | undefined;
  systemErrors(path, () => {
    rmSync(fresh, { recursive: true, force: true });
    uppermost = makeDirectories(fresh);
  });
  try {
    await named(fresh, path, write);
    systemErrors(path, () => {
      const replaces = existsSync(target);
      if (replaces) renameSync(target, old);
      try {
        renameSync(fresh, target);
      } catch (error) {
        if (replaces) renameSync(old, target);
        throw error;
      }
      rmSync(old, { recursive: true, force: true });
    });
  } catch (error) {
    rmSync(fresh, { recursive: true, force: true });
    removeEmpty(dirname(fresh), uppermost);
    throw error;
  }
}

/** Runs `write`; errors of files in the folder that nobody will see speak of the one that was asked for. */
async function named(fresh: string, path: string, write: (directory: string) => Promise<void>): Promise<void> {
  try {
    await write(fresh);
  } catch (error) {
    if (!(error instanceof FileError) || !error.message.startsWith(fresh)) throw error;
    throw new FileError(path, `${path}${error.message.slice(fresh.length)}`, { cause: error });
  }
}

/** Removes the directories from `path` up to `uppermost` that are empty again. */
function removeEmpty(path: string, uppermost: string | undefined): void {
  if (uppermost === undefined || !path.startsWith(uppermost)) return;
  try {
    rmdirSync(path);
  } catch {
    return; // somebody else has put something there
  }
  removeEmpty(dirname(path), uppermost);
}

/**
 * Throws ArgumentError when something is at `path` and `force` is not given, when that is no model (a folder that is named by
 * mistake must not vanish), or when it is or holds the source.
 */
export function checkDestination(path: string, kind: "directory" | "file", options: OverwriteOptions): void {
  if (path === "") throw new ArgumentError(`the destination has no name; say where the ${kind} is to be written`);
  const { force = false, source: sources = [] } = options;
  if ([sources].flat().some((source) => isOrHolds(path, source))) {
    throw new ArgumentError(`${path}: this is the model that is being read, or holds it; give another place`);
  }
  const found = kindOf(path);
  if (found === undefined) return;
  if (found !== kind) {
    throw new ArgumentError(
      `${path}: expected to write a ${kind}, but there is a ${found} of this name; give another name`,
    );
  }
  if (kind === "directory") {
    const entries = listed(path);
    if (entries.length === 0) return;
    if (force && !entries.includes("config.json")) {
      throw new ArgumentError(`${path}: this folder holds no model, so it is not replaced; give another name`);
    }
  }
  if (!force) throw new ArgumentError(`${path}: it exists already; give another name, or force to replace it`);
}

function kindOf(path: string): "directory" | "file" | undefined {
  try {
    return statSync(path).isDirectory() ? "directory" : "file";
  } catch (cause) {
    if (isMissing(cause)) return undefined;
    throw new FileError(path, `${path}: it cannot be examined (${reasonOf(cause)})`, { cause });
  }
}

function listed(path: string): string[] {
  try {
    return readdirSync(path);
  } catch (cause) {
    throw new FileError(path, `${path}: the directory cannot be read (${reasonOf(cause)})`, { cause });
  }
}

function isOrHolds(path: string, source: string): boolean {
  const [outer, inner] = [realPath(path), realPath(source)];
  return inner === outer || inner.startsWith(`${outer}${sep}`);
}

/** Links resolved as far as the path exists. */
function realPath(path: string): string {
  const whole = resolve(path);
  try {
    return realpathSync(whole);
  } catch {
    const parent = dirname(whole);
    return parent === whole ? whole : join(realPath(parent), basename(whole));
  }
}
