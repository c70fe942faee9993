import { basename, dirname, join } from "node:path";
import { ArgumentError, FileError, FormatError } from "../../base/errors.ts";
import { describeJson } from "../json.ts";
import { GgufFile } from "./file.ts";
import type { GgufTensor } from "./header.ts";
import type { GgufMetadata } from "./metadata.ts";

/** How llama.cpp names the parts of a model: `NAME-00001-of-00003.gguf`. */
const partName = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/;

/** A model in one GGUF file or in numbered parts, open for reading. Metadata is that of the first part. */
export class GgufParts {
  /** Of the first part, or of the only file. */
  readonly path: string;
  readonly metadata: GgufMetadata;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
  readonly files: readonly GgufFile[];
  readonly #byPath: ReadonlyMap<string, GgufFile>;

  /**
   * Opens a file and, when it is one of several parts, all of them, whichever was named.
   * Throws FileError when one is missing, FormatError when they do not belong together.
   */
  static open(path: string): GgufParts {
    const named = GgufFile.open(path);
    const opened = [named];
    try {
      const count = named.metadata.find("size", "split.count") ?? 1;
      return new GgufParts(count > 1 ? openOthers(named, count, opened) : opened);
    } catch (error) {
      for (const file of opened) file.close();
      throw error;
    }
  }

  private constructor(files: readonly GgufFile[]) {
    const [first] = files;
    this.path = first!.path;
    this.metadata = first!.metadata;
    this.files = files;
    this.#byPath = new Map(files.map((file) => [file.path, file]));
    this.tensors = uniteTensors(files);
  }

  /** The open file that holds a tensor. */
  fileOf(path: string): GgufFile {
    const file = this.#byPath.get(path);
    if (file) return file;
    throw new ArgumentError(`${this.path}: ${path} is no part of this model`);
  }

  close(): void {
    for (const file of this.files) file.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** The GGUF models of a folder's entries: single files and first parts. Projectors of images and sound are no models. */
export function ggufModels(entries: readonly string[]): string[] {
  return entries
    .filter((name) => name.endsWith(".gguf") && !/(^|[-_.])mmproj[-_.]/i.test(name))
    .filter((name) => (partName.exec(name)?.[2] ?? "00001") === "00001")
    .sort();
}

/** All parts in order; those opened here are added to `opened` as they are. */
function openOthers(named: GgufFile, count: number, opened: GgufFile[]): GgufFile[] {
  const { path } = named;
  const match = partName.exec(basename(path));
  if (!match || Number(match[3]) !== count) {
    throw new FormatError(
      path,
      `${path}: this is one of ${count} parts, but its name does not end in -00001-of-${pad(count)}.gguf or the like; give the parts their names back`,
    );
  }
  const prefix = match[1]!;
  const files: GgufFile[] = [];
  for (let number = 1; number <= count; number++) {
    const isNamed = number === Number(match[2]);
    const file = isNamed ? named : openPart(join(dirname(path), `${prefix}-${pad(number)}-of-${match[3]}.gguf`), path);
    if (!isNamed) opened.push(file);
    checkPart(file, number, count);
    files.push(file);
  }
  return files;
}

function openPart(path: string, named: string): GgufFile {
  try {
    return GgufFile.open(path);
  } catch (error) {
    if (!(error instanceof FileError)) throw error;
    throw new FileError(path, `${error.message}, though ${named} is a part of the same model; download all parts`, {
      cause: error,
    });
  }
}

function checkPart({ path, metadata }: GgufFile, number: number, count: number): void {
  const found = [metadata.find("size", "split.no"), metadata.find("size", "split.count")];
  if (found[0] === number - 1 && found[1] === count) return;
  throw new FormatError(
    path,
    `${path}: its metadata says part ${found[0] === undefined ? "unknown" : found[0] + 1} of ${found[1] ?? "unknown"}, its name part ${number} of ${count}; the files are not of one model`,
  );
}

function uniteTensors(files: readonly GgufFile[]): ReadonlyMap<string, GgufTensor> {
  const [first] = files;
  if (files.length === 1) return first!.tensors;
  const tensors = new Map<string, GgufTensor>();
  for (const file of files) {
    for (const [name, tensor] of file.tensors) {
      const other = tensors.get(name);
      if (other) {
        throw new FormatError(file.path, `${file.path}: tensor ${describeJson(name)} is also in ${other.file}`);
      }
      tensors.set(name, tensor);
    }
  }
  const announced = first!.metadata.find("size", "split.tensors.count") ?? tensors.size;
  if (announced !== tensors.size) {
    throw new FormatError(
      first!.path,
      `${first!.path}: the parts hold ${tensors.size} tensors, but split.tensors.count says ${announced}; download them again`,
    );
  }
  return tensors;
}

function pad(number: number): string {
  return String(number).padStart(5, "0");
}
