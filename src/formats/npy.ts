import { FormatError } from "../base/errors.ts";
import { elementCount } from "../base/shape.ts";
import { ReadableFile } from "./readable-file.ts";
import { replaceFile, writeAll } from "./replace-file.ts";

/** A NumPy array as its file has it: `descr` is NumPy's name of the element type (`<f4`), `data` the elements in C order. */
export interface NpyArray {
  readonly descr: string;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

const magic = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];
const headerPattern =
  /^\{'descr': '([<>|=]?[a-zA-Z]\d*)', 'fortran_order': (True|False), 'shape': \(((?:\d+, ?)*\d*),?\), ?\}\s*$/;
const maxHeaderBytes = 65536;

/**
 * Reads an .npy file of any version. Throws FileError, and FormatError for what is no array of plain little-endian elements
 * in C order. Source: numpy/lib/format.py, "Format Version 1.0" to "3.0".
 */
export function readNpy(path: string): NpyArray {
  using file = ReadableFile.open(path, "an .npy file");
  const fail = (detail: string): never => {
    throw new FormatError(path, `${path}: ${detail}`);
  };
  if (file.sizeBytes < 12) fail(`an .npy file has a header, but this file has ${file.sizeBytes} bytes`);
  const prefix = new Uint8Array(12);
  file.readSync(prefix, 0);
  if (!magic.every((byte, i) => prefix[i] === byte)) fail('it is no .npy file: it does not begin with "\\x93NUMPY"');
  const view = new DataView(prefix.buffer);
  const version = prefix[6]!;
  const headerStart = version === 1 ? 10 : 12;
  const headerBytes = version === 1 ? view.getUint16(8, true) : view.getUint32(8, true);
  const dataStart = headerStart + headerBytes;
  if (headerBytes > maxHeaderBytes || dataStart > file.sizeBytes)
    fail(`the header says that it has ${headerBytes} bytes`);
  const header = new Uint8Array(headerBytes);
  file.readSync(header, headerStart);
  const found = headerPattern.exec(new TextDecoder("latin1").decode(header));
  if (!found) return fail("the header does not describe one plain array");
  const [, descr = "", order, sizes = ""] = found;
  if (order === "True") fail("the array is in Fortran order; save it with numpy.ascontiguousarray");
  if (/^>/.test(descr)) fail(`the elements are big-endian (${descr}); save it with .astype of a little-endian type`);
  const elementBytes = Number(/\d+$/.exec(descr)?.[0] ?? Number.NaN);
  if (!/^[<|=]?[fiub]\d+$/.test(descr)) fail(`elements of type ${descr} are not numbers`);
  const shape = sizes
    .split(",")
    .filter((size) => size.trim() !== "")
    .map(Number);
  const bytes = elementCount(shape) * elementBytes;
  if (dataStart + bytes !== file.sizeBytes) {
    fail(
      `${descr} of shape [${shape.join(", ")}] takes ${bytes} bytes, but ${file.sizeBytes - dataStart} follow the header`,
    );
  }
  const data = new Uint8Array(bytes);
  file.readSync(data, dataStart);
  return { descr: descr.replace("=", "<"), shape, data };
}

/** Writes version 1.0, with the data at a multiple of 64 bytes as NumPy has it. Throws FileError. */
export function writeNpy(path: string, { descr, shape, data }: NpyArray): void {
  const sizes = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  const text = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${sizes}), }`;
  const total = Math.ceil((10 + text.length + 1) / 64) * 64;
  const header = Buffer.from(`${text.padEnd(total - 11)}\n`, "latin1");
  const prefix = Buffer.from([...magic, 1, 0, 0, 0]);
  prefix.writeUInt16LE(header.length, 8);
  replaceFile(path, (fd) => {
    writeAll(fd, prefix);
    writeAll(fd, header);
    writeAll(fd, data);
  });
}
