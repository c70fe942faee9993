import { readdirSync } from "node:fs";
import { homedir } from "node:os";
import { LibraryError } from "../base/errors.ts";
import { settings } from "../base/settings.ts";
import type { FfiEngine, NativeLibrary } from "./engine.ts";
import { type Candidate, type LibraryName, libraryCandidates, type SearchEnvironment } from "./search.ts";

/** What became of one candidate: undefined `problem` means that it was opened. */
export interface Attempt extends Candidate {
  readonly problem: string | undefined;
}

/** The outcome of a search, as `llcuda doctor` shows it. */
export interface LibrarySearch {
  readonly name: LibraryName;
  readonly library: NativeLibrary | undefined;
  /** Where `library` was found. */
  readonly source: string | undefined;
  readonly attempts: readonly Attempt[];
}

/** Tries the candidates for `name` in order until one opens. */
export function findLibrary(
  name: LibraryName,
  engine: FfiEngine,
  options: { newestMajor?: number; environment?: SearchEnvironment } = {},
): LibrarySearch {
  const environment = options.environment ?? processEnvironment(name);
  const { newestMajor } = options;
  const attempts: Attempt[] = [];
  for (const candidate of libraryCandidates(
    name,
    newestMajor === undefined ? environment : { ...environment, newestMajor },
  )) {
    try {
      const library = engine.open(candidate.file);
      attempts.push({ ...candidate, problem: undefined });
      return { name, library, source: candidate.source, attempts };
    } catch (error) {
      attempts.push({ ...candidate, problem: (error as Error).message });
    }
  }
  return { name, library: undefined, source: undefined, attempts };
}

/** Like `findLibrary`, but not finding it is a LibraryError whose message ends with `advice`. */
export function openLibrary(name: LibraryName, engine: FfiEngine, advice: string): NativeLibrary {
  const { library, attempts } = findLibrary(name, engine);
  if (library) return library;
  const tried = attempts.map((a) => a.file);
  const last = attempts.at(-1)?.problem;
  throw new LibraryError(
    name,
    `${name}: no library found, tried ${tried.join(", ")}${last === undefined ? "" : ` (${last})`}; ${advice}`,
    tried,
  );
}

function processEnvironment(name: LibraryName): SearchEnvironment {
  return {
    platform: process.platform,
    arch: process.arch,
    explicit: settings.library(name),
    cudaHome: settings.cudaHome(),
    pythonPrefixes: settings.pythonPrefixes(),
    pathFolders: settings.pathFolders(),
    home: homedir(),
    list: (folder) => {
      try {
        return readdirSync(folder);
      } catch {
        return [];
      }
    },
  };
}
