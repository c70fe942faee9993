import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { FileError } from "../base/errors.ts";
import { reasonOf } from "./json.ts";

/** Writes beside `path` and renames when complete, so that no reader ever sees half a file. */
export function replaceFile(path: string, write: (fd: number) => void): void {
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}.tmp`);
  systemErrors(path, () => {
    const fd = openSync(temporary, "w");
    try {
      try {
        write(fd);
        fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
      renameSync(temporary, path);
    } catch (error) {
      rmSync(temporary, { force: true });
      throw error;
    }
  });
}

/** Writes all of `bytes`, in pieces that the system takes. */
export function writeAll(fd: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) {
    done += writeSync(fd, bytes, done, Math.min(bytes.length - done, 1 << 30));
  }
}

/** The same from a position of the file on. */
export function writeAt(fd: number, bytes: Uint8Array, position: number): void {
  for (let done = 0; done < bytes.length; ) {
    done += writeSync(fd, bytes, done, Math.min(bytes.length - done, 1 << 30), position + done);
  }
}

const reasons: Readonly<Record<string, string>> = {
  EACCES: "permission is missing",
  EDQUOT: "the quota is used up",
  ENAMETOOLONG: "the name is too long",
  ENOENT: "there is no such directory",
  ENOSPC: "the disk is full",
  ENOTDIR: "a part of the path is no directory",
  EPERM: "permission is missing",
  EROFS: "the file system is read-only",
};

/** Makes a directory and those above it that are missing. Returns the uppermost one that it made, or undefined. */
export function makeDirectories(path: string): string | undefined {
  // Not by the option `recursive`: where a file system takes no directories (/proc), that never returns.
  if (existsSync(path)) return undefined;
  const above = makeDirectories(dirname(path));
  mkdirSync(path);
  return above ?? path;
}

/** Runs an action that writes to `path` and turns the system's errors into FileError; others pass. */
export function systemErrors(path: string, action: () => void): void {
  try {
    action();
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).syscall === undefined) throw cause;
    const reason = reasonOf(cause);
    const said = Object.hasOwn(reasons, reason) ? `: ${reasons[reason]}` : "";
    throw new FileError(path, `${path}: writing failed${said} (${reason})`, { cause });
  }
}
