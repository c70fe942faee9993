import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliDecompressSync } from "node:zlib";
import { f16ToNumber } from "../../src/base/float.ts";
import { GgufFile } from "../../src/formats/gguf/file.ts";
import { parseGguf } from "../../src/formats/gguf/header.ts";
import { quantizeModel } from "../../src/models/export/quantize-model.ts";

/*
 * test/fixtures/demo-chat.Q4_K_M.gguf as gguf-py wrote it, from a sixth of its bytes. Its scales were searched for and are kept; its
 * codes are the nearest whole numbers to (weight + min) / scale, and the weights are those of models/demo. So the repository holds
 * the file without codes (.scales.br), and a hash of the whole says that what is built is that file, bit by bit.
 */

const path = fileURLToPath(new URL("../fixtures/demo-chat.Q4_K_M.gguf", import.meta.url));
const scalesPath = path.replace(/gguf$/, "scales.br");
const fileBytes = 1_750_944;
const fileHash = "e602efb01083fbfe5ec1f116e2b893fc06d2fcd04068fcec566a86c02467ad99";

/** Where a superblock of 256 weights has its codes, and how they are made; the rest is what is kept. */
interface SuperBlock {
  readonly bytes: number;
  readonly codes: readonly [begin: number, end: number];
  /** `block` has its scales; its codes are zero. */
  encode(block: Uint8Array, weights: Float32Array): void;
}

const superBlocks: Readonly<Record<string, SuperBlock>> = {
  Q4_K: { bytes: 144, codes: [16, 144], encode: encodeQ4K },
  Q6_K: { bytes: 210, codes: [0, 192], encode: encodeQ6K },
};

/** Builds the fixture where it is missing or another, and gives its path. Throws when the result is not gguf-py's file. */
export async function buildKTypeFixture(): Promise<string> {
  if (existsSync(path) && hashOf(readFileSync(path)) === fileHash) return path;
  const scratch = mkdtempSync(join(tmpdir(), "llcuda-fixture-"));
  try {
    const plain = join(scratch, "f32.gguf");
    await quantizeModel("demo", plain, { to: "f32" });
    using weights = GgufFile.open(plain);
    const built = withCodes(brotliDecompressSync(readFileSync(scalesPath)), weights);
    if (hashOf(built) !== fileHash) throw new Error(`${path}: what was built from ${scalesPath} is not gguf-py's file`);
    // In one step, since several processes may be at it.
    const beside = `${path}.${process.pid}`;
    writeFileSync(beside, built);
    renameSync(beside, path);
    return path;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function hashOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function withCodes(kept: Uint8Array, weights: GgufFile): Uint8Array {
  const readSync = (target: Uint8Array, position: number) =>
    target.set(kept.subarray(position, position + target.length));
  const { tensors, dataOffset } = parseGguf({ path: scalesPath, sizeBytes: fileBytes, readSync });
  const out = new Uint8Array(fileBytes);
  out.set(kept.subarray(0, dataOffset));
  let from = dataOffset;
  for (const { name, type, byteOffset, byteLength } of tensors.values()) {
    const layout = superBlocks[type.name];
    if (!layout) {
      out.set(kept.subarray(from, from + byteLength), byteOffset);
      from += byteLength;
      continue;
    }
    const plain = weights.tensors.get(name)!;
    const values = new Float32Array(plain.byteLength / 4);
    weights.readSync(new Uint8Array(values.buffer), plain.byteOffset);
    const [begin, end] = layout.codes;
    for (let i = 0; i * layout.bytes < byteLength; i++) {
      const block = out.subarray(byteOffset + i * layout.bytes, byteOffset + (i + 1) * layout.bytes);
      block.set(kept.subarray(from, from + begin));
      block.set(kept.subarray(from + begin, from + begin + layout.bytes - end), end);
      from += begin + layout.bytes - end;
      layout.encode(block, values.subarray(256 * i, 256 * (i + 1)));
    }
  }
  return out;
}

/** Sixteen bytes of scales: d and dmin in float16, then a scale and a min of six bits for each 32 weights. */
function encodeQ4K(block: Uint8Array, weights: Float32Array): void {
  const view = new DataView(block.buffer, block.byteOffset);
  const [d, dmin] = [f16ToNumber(view.getUint16(0, true)), f16ToNumber(view.getUint16(2, true))];
  const packed = block.subarray(4, 16);
  for (let group = 0; group < 8; group++) {
    const [low, high] = [packed[group % 4]!, packed[(group % 4) + 4]!];
    const last = packed[(group % 4) + 8]!;
    const scale = Math.fround(d * (group < 4 ? low & 63 : (last & 15) | ((low >> 6) << 4)));
    const min = Math.fround(dmin * (group < 4 ? high & 63 : (last >> 4) | ((high >> 6) << 4)));
    for (let i = 0; i < 32; i++) {
      const code = nearest(Math.fround(weights[32 * group + i]! + min), scale, 0, 15);
      block[16 + 32 * (group >> 1) + i]! |= code << (4 * (group & 1));
    }
  }
}

/** Codes in 128 bytes of their lower four bits and 64 of their upper two, then a scale of eight bits for each 16 weights, and d. */
function encodeQ6K(block: Uint8Array, weights: Float32Array): void {
  const view = new DataView(block.buffer, block.byteOffset);
  const d = f16ToNumber(view.getUint16(208, true));
  for (let i = 0; i < 256; i++) {
    const scale = Math.fround(d * view.getInt8(192 + (i >> 4)));
    const code = nearest(weights[i]!, scale, -32, 31) + 32;
    const [half, quarter] = [i >> 7, (i >> 5) & 3];
    block[64 * half + (i & 63)]! |= (code & 15) << (4 * (quarter >> 1));
    block[128 + 32 * half + (i & 31)]! |= (code >> 4) << (2 * quarter);
  }
}

/** x / scale in float32, to the nearest whole number, ties to even. */
function nearest(x: number, scale: number, least: number, most: number): number {
  const quotient = Math.fround(x / scale);
  const shift = 1.5 * 2 ** 23;
  const rounded = Math.fround(quotient + shift) - shift;
  return Math.min(most, Math.max(least, rounded));
}
