import { existsSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";

/** Lines of CUDA source files that a PTX file names, where they can be found: as named, from here or from the PTX file, or beside it. */
export class SourceText {
  readonly #folder: string;
  readonly #files = new Map<string, readonly string[] | undefined>();

  constructor(ptxPath: string) {
    this.#folder = dirname(ptxPath);
  }

  /** Undefined when the file is not there. */
  line(file: string, line: number): string | undefined {
    if (!this.#files.has(file)) this.#files.set(file, this.#read(file));
    return this.#files.get(file)?.[line - 1]?.trim();
  }

  #read(file: string): readonly string[] | undefined {
    const candidates = [file, join(this.#folder, file), join(this.#folder, basename(file))];
    const found = candidates.find((path) => existsSync(path));
    try {
      return found === undefined ? undefined : readFileSync(found, "utf8").split("\n");
    } catch {
      return undefined; // a profile without source text is still one
    }
  }
}
