import { describe, expect, test } from "vitest";
import { bfloat16, float32 } from "../../src/base/dtype.ts";
import type { Upload } from "../../src/nn/checkpoint-weights.ts";
import { planChunks } from "../../src/nn/upload.ts";

function upload(file: string, byteOffset: number, byteLength: number, from = bfloat16): Upload {
  const info = {
    name: "t",
    dtype: from.safetensors,
    elementType: from,
    shape: [byteLength / from.bytes],
    file,
    byteOffset,
    byteLength,
  };
  return { info, from, target: undefined as never, targetOffset: 0 };
}

describe("planChunks", () => {
  test("covers every byte of every tensor once, in whole elements, within the limit", () => {
    const uploads = [
      upload("b", 900, 70),
      upload("a", 8, 2),
      upload("a", 10, 333 * 2),
      upload("a", 676, 5 * 4, float32),
      upload("b", 100, 800),
      upload("b", 0, 0),
    ];
    for (const limit of [16, 48, 256, 4096]) {
      const chunks = planChunks(uploads, limit);
      for (const chunk of chunks) {
        expect(chunk.bytes <= limit).toBe(true);
        let end = 0;
        for (const s of chunk.segments) {
          expect(s.chunkOffset % 16).toBe(0);
          expect(s.chunkOffset >= end).toBe(true);
          expect(s.tensorOffset % s.upload.from.bytes).toBe(0);
          end = s.chunkOffset + s.bytes;
        }
        expect(end).toBe(chunk.bytes);
      }
      for (const u of uploads) {
        const parts = chunks.flatMap((c) => c.segments).filter((s) => s.upload === u);
        let next = 0;
        for (const part of parts) {
          expect(part.tensorOffset).toBe(next);
          next += part.bytes;
        }
        expect(next).toBe(u.info.byteLength);
      }
    }
  });

  test("reads files in order", () => {
    const chunks = planChunks([upload("b", 0, 64), upload("a", 64, 64), upload("a", 0, 64)], 64);
    expect(chunks.map((c) => [c.segments[0]!.upload.info.file, c.segments[0]!.upload.info.byteOffset])).toEqual([
      ["a", 0],
      ["a", 64],
      ["b", 0],
    ]);
  });
});
