import type { Target } from "../../src/kernels/spec.ts";

/**
 * Turns what nvcc wrote into what is committed: no comments, no absolute path, nothing that differs from machine to
 * machine, and line numbers that every PTX version understands.
 *
 * nvcc gives inlined code an `inlined_at` chain and a table of function names in .debug_str (PTX 7.2). Both go: a line
 * keeps its innermost place in our sources, and when that is a CUDA header, the place in our sources it was inlined at.
 */
export function tidy(text: string, target: Target, root: string): string {
  const files = ownFiles(text, root);
  const out: string[] = [];
  let place = ""; // the .loc that the next instruction needs
  let written = ""; // the last .loc that was written
  let inDebug = false;
  for (const raw of text.split("\n")) {
    let line = raw.replace(/\s*\/\/.*$/, "").trimEnd();
    if (line.trim() === "") continue;
    if (/^\s*\.section\s+\.debug/.test(line)) inDebug = true;
    if (inDebug) {
      if (line.trim() === "}") inDebug = false;
      continue;
    }
    if (/^\s*\.file\b/.test(line)) continue;
    if (/^\s*\.loc\b/.test(line)) {
      place = ownPlace(line, files) ?? place;
      continue;
    }
    if (/^\s*\.target\b/.test(line)) line = `.target ${target}`;
    // Internal-linkage names hold a hash of the absolute path.
    line = line.replace(/_INTERNAL_[0-9a-f]{8}_/g, "_INTERNAL_00000000_");
    if (isInstruction(line) && place !== written) {
      out.push(place);
      written = place;
    }
    if (line === "}") place = written = ""; // the next function starts anew
    out.push(line.replace(/^\t+/, "\t").replace(/(?<=\S)[ \t]+/g, " "));
  }
  for (const [index, path] of files) out.push(`.file ${index} "${path}"`);
  return `${out.join("\n")}\n`;
}

/** The numbered files that lie in the repository, by number. */
function ownFiles(text: string, root: string): Map<string, string> {
  const base = root.replaceAll("\\", "/");
  const files = new Map<string, string>();
  for (const [, index, path] of text.matchAll(/^\s*\.file\s+(\d+)\s+"([^"]+)"/gm)) {
    const normal = resolveDots(path!.replaceAll("\\", "/"));
    if (normal.startsWith(base)) files.set(index!, normal.slice(base.length));
  }
  return files;
}

/** Removes `folder/..` pairs, which includes leave behind. */
function resolveDots(path: string): string {
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === ".." && parts.length > 0) parts.pop();
    else if (part !== ".") parts.push(part);
  }
  return parts.join("/");
}

function ownPlace(loc: string, files: Map<string, string>): string | undefined {
  const [, file, line] = /\.loc\s+(\d+)\s+(\d+)/.exec(loc) ?? [];
  if (file && files.has(file)) return `\t.loc ${file} ${line} 0`;
  const [, outerFile, outerLine] = /inlined_at\s+(\d+)\s+(\d+)/.exec(loc) ?? [];
  if (outerFile && files.has(outerFile)) return `\t.loc ${outerFile} ${outerLine} 0`;
  return undefined;
}

/** An instruction or a predicated one, not a directive, a label or a brace. */
function isInstruction(line: string): boolean {
  return /^\s+(@!?%p\d+\s+)?\{?\s*[a-z][a-z0-9_.:]*(\s|;)/.test(line) && !/^\s*\./.test(line);
}
