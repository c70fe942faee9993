import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { brotliCompressSync, brotliDecompressSync, constants } from "node:zlib";
import { type Manifest, type ManifestFile, manifestName } from "../../src/kernels/manifest.ts";
import { root } from "./paths.ts";

const ptxRoot = `${root}ptx/`;

function ptxPath(family: string, file: string): string {
  return `${ptxRoot}${family}/${file}`;
}

/** Texts are stored compressed: brotli makes PTX a tenth, a third less than gzip. Everywhere else they go by their plain name. */
const suffix = ".br";

/** Undefined when the family has none, or one that cannot be read: it is then built from scratch. */
export function readManifest(family: string): Manifest | undefined {
  try {
    return JSON.parse(readFileSync(ptxPath(family, manifestName), "utf8")) as Manifest;
  } catch {
    return undefined;
  }
}

/** One line per file, sorted, so that changes of different variants merge. */
export function writeManifest(family: string, compiler: string, files: readonly ManifestFile[]): void {
  const key = (f: ManifestFile): string => `${f.symbol}.${f.target}`;
  const lines = [...files].sort((a, b) => (key(a) < key(b) ? -1 : 1)).map((f) => `    ${JSON.stringify(f)}`);
  const text = `{\n  "compiler": ${JSON.stringify(compiler)},\n  "files": [\n${lines.join(",\n")}\n  ]\n}\n`;
  mkdirSync(ptxPath(family, ""), { recursive: true });
  const path = ptxPath(family, manifestName);
  if (!existsSync(path) || readFileSync(path, "utf8") !== text) writeFileSync(path, text);
}

export function readText(family: string, file: string): string | undefined {
  const path = ptxPath(family, file + suffix);
  if (!existsSync(path)) return undefined;
  try {
    return brotliDecompressSync(readFileSync(path)).toString("utf8");
  } catch {
    return ""; // damaged: it counts as edited
  }
}

export function writeText(family: string, file: string, text: string): void {
  mkdirSync(ptxPath(family, ""), { recursive: true });
  const params = {
    [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY,
    [constants.BROTLI_PARAM_LGWIN]: constants.BROTLI_MAX_WINDOW_BITS,
    [constants.BROTLI_PARAM_MODE]: constants.BROTLI_MODE_TEXT,
  };
  writeFileSync(ptxPath(family, file + suffix), brotliCompressSync(text, { params }));
}

/** The folders in `ptx/`. */
export function storedFamilies(): string[] {
  if (!existsSync(ptxRoot)) return [];
  return readdirSync(ptxRoot, { withFileTypes: true })
    .filter((e) => e.isDirectory())
    .map((e) => e.name)
    .sort();
}

/** The files of a family, the manifest apart. */
export function storedFiles(family: string): string[] {
  const path = ptxPath(family, "");
  return existsSync(path)
    ? readdirSync(path)
        .filter((f) => f !== manifestName)
        .map((f) => (f.endsWith(suffix) ? f.slice(0, -suffix.length) : `${f} (not compressed)`))
        .sort()
    : [];
}

export function removeStored(family: string, file?: string): void {
  const path = file === undefined ? "" : file.replace(/ \(not compressed\)$/, "");
  rmSync(ptxPath(family, path === file ? path + suffix : path), { recursive: true, force: true });
}
