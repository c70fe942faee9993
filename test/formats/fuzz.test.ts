import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LlcudaError } from "../../src/base/errors.ts";
import { parseGenerationConfig } from "../../src/formats/config/generation-config.ts";
import { parseModelConfig } from "../../src/formats/config/model-config.ts";
import { parseJsonObject } from "../../src/formats/json.ts";
import { openCheckpoint } from "../../src/formats/safetensors/checkpoint.ts";
import { headerLength, parseHeader } from "../../src/formats/safetensors/header.ts";
import { Tokenizer } from "../../src/formats/tokenizer/tokenizer.ts";
import { fuzz, openFileCount, rewrite } from "./fuzzing.ts";
import { mutate, seededInts, shard } from "./support.ts";

const fixtures = join(import.meta.dirname, "../fixtures");
let scratch = "";
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "llcuda-fuzz-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** The 8-byte length and the header of a file, and the size of its data. */
function headerOf(path: string): { bytes: Uint8Array; dataBytes: number } {
  const file = readFileSync(path);
  const end = 8 + Number(file.readBigUInt64LE());
  return { bytes: file.subarray(0, end), dataBytes: file.length - end };
}

describe("damaged files never crash a reader", () => {
  test("safetensors headers", () => {
    const { bytes, dataBytes } = headerOf(join(fixtures, "qwen2-bias/model.safetensors"));
    const read = (header: Uint8Array) => {
      // The length in front is kept true, so that mutations reach the checks behind it.
      const { tensors, dataOffset } = parseHeader(header, "fuzz", 8 + header.length + dataBytes);
      let end = dataOffset;
      for (const info of tensors.values()) {
        if (info.byteOffset !== end) throw new Error(`${info.name} is not where the last tensor ended`);
        end += info.byteLength;
      }
      if (end !== 8 + header.length + dataBytes) throw new Error("the tensors do not cover the file");
    };
    const tally = fuzz({ cases: 8000, seed: 1, from: bytes.subarray(8), read });
    expect(tally.refused).toBeGreaterThan(4000);
    expect(tally.accepted).toBeGreaterThan(10);
  });

  test("the length in front of a header", () => {
    const next = seededInts(4);
    for (let i = 0; i < 5000; i++) {
      const prefix = Uint8Array.from({ length: next(9) }, () => (next(3) === 0 ? next(256) : 0));
      const fileBytes = next(2) === 0 ? prefix.length : next(2 ** 31);
      try {
        const length = headerLength(prefix, "fuzz", fileBytes);
        if (length > fileBytes - 8) throw new Error(`a header of ${length} bytes does not fit`);
      } catch (error) {
        if (!(error instanceof LlcudaError)) throw error;
      }
    }
  });

  test("the index of shards", () => {
    shard(join(fixtures, "llama3-gqa-bf16"), scratch, 200_000);
    const index = JSON.parse(readFileSync(join(scratch, "model.safetensors.index.json"), "utf8"));
    const from = new TextEncoder().encode(JSON.stringify(index));
    const read = (bytes: Uint8Array) => {
      rewrite(join(scratch, "model.safetensors.index.json"), bytes);
      openCheckpoint(scratch).close();
    };
    const before = openFileCount();
    const tally = fuzz({ cases: 500, seed: 2, from, read });
    expect(tally.refused).toBeGreaterThan(150);
    expect(openFileCount()).toBeLessThan(before + 4); // every refusal closed what it had opened
  });

  test("configs", () => {
    const reach = { accepted: 0, refused: 0 };
    for (const name of ["llama31-rope-scaling", "phi3-fused", "gemma3-text"]) {
      const from = readFileSync(join(fixtures, name, "config.json"));
      const read = (bytes: Uint8Array) => {
        const config = parseModelConfig(parseJsonObject(bytes, "config.json", "the config"), "config.json");
        const isSound = config.numAttentionHeads % config.numKeyValueHeads === 0 && config.rope.theta > 0;
        if (!isSound) throw new Error("an unsound config was accepted");
      };
      const tally = fuzz({ cases: 4000, seed: 3, from, read });
      reach.accepted += tally.accepted;
      reach.refused += tally.refused;
    }
    expect(reach.accepted).toBeGreaterThan(500);
    expect(reach.refused).toBeGreaterThan(5000);
    const generation = readFileSync(join(fixtures, "../../models/demo/generation_config.json"));
    const read = (bytes: Uint8Array) => {
      parseGenerationConfig(parseJsonObject(bytes, "generation_config.json", "the config"), "generation_config.json");
    };
    fuzz({ cases: 3000, seed: 5, from: generation, read });
  });

  test("tokenizers: what loads also encodes, decodes, or refuses", () => {
    const json = JSON.parse(readFileSync(join(fixtures, "tok-llama2/tokenizer.json"), "utf8"));
    // A small vocabulary, so that most mutations hit the parts around it.
    json.model.vocab = Object.fromEntries(Object.entries(json.model.vocab).slice(0, 300));
    json.model.merges = [];
    const config = parseJsonObject(readFileSync(join(fixtures, "tok-llama2/tokenizer_config.json")), "c", "c");
    const from = new TextEncoder().encode(JSON.stringify(json));
    const read = (bytes: Uint8Array) => {
      const tokenizer = new Tokenizer({
        tokenizer: parseJsonObject(bytes, "tokenizer.json", "the tokenizer"),
        config,
        specialTokensMap: {},
        addedTokens: {},
        file: "tokenizer.json",
      });
      tokenizer.decode(tokenizer.encode("Hello </s> 안녕 <0x41>"));
      tokenizer.encode("Hello </s>", { specialTokens: "text" });
    };
    const tally = fuzz({ cases: 800, seed: 6, from, read });
    expect(tally.accepted).toBeGreaterThan(50);
    expect(tally.refused).toBeGreaterThan(300);
  });

  test("memory stays within a small multiple of what was read", () => {
    const { bytes } = headerOf(join(fixtures, "qwen2-bias/model.safetensors"));
    const next = seededInts(8);
    const before = process.memoryUsage().rss;
    for (let i = 0; i < 2000; i++) {
      try {
        parseHeader(mutate(bytes.subarray(8), next), "fuzz", 1 << 20);
      } catch (error) {
        if (!(error instanceof LlcudaError)) throw error;
      }
    }
    expect(process.memoryUsage().rss - before).toBeLessThan(200 << 20);
  });
});
