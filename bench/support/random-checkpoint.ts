import { randomFillSync } from "node:crypto";
import { closeSync, openSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { shapeConfig } from "./shapes.ts";

interface Entry {
  readonly name: string;
  readonly shape: readonly number[];
}

function tensorsOf(shape: string): Entry[] {
  const c = shapeConfig(shape);
  const heads = c.numAttentionHeads * c.headDim;
  const kv = c.numKeyValueHeads * c.headDim;
  const entries: Entry[] = [{ name: "model.embed_tokens.weight", shape: [c.vocabSize, c.hiddenSize] }];
  for (let i = 0; i < c.numHiddenLayers; i++) {
    const at = (name: string, ...dims: number[]) =>
      entries.push({ name: `model.layers.${i}.${name}.weight`, shape: dims });
    at("input_layernorm", c.hiddenSize);
    at("self_attn.q_proj", heads, c.hiddenSize);
    at("self_attn.k_proj", kv, c.hiddenSize);
    at("self_attn.v_proj", kv, c.hiddenSize);
    at("self_attn.o_proj", c.hiddenSize, heads);
    at("post_attention_layernorm", c.hiddenSize);
    at("mlp.gate_proj", c.intermediateSize, c.hiddenSize);
    at("mlp.up_proj", c.intermediateSize, c.hiddenSize);
    at("mlp.down_proj", c.hiddenSize, c.intermediateSize);
  }
  entries.push({ name: "model.norm.weight", shape: [c.hiddenSize] });
  if (!c.tieWordEmbeddings) entries.push({ name: "lm_head.weight", shape: [c.vocabSize, c.hiddenSize] });
  return entries;
}

const shardBytes = 5e9;

/** Writes config and weights of a shape into a folder, in shards of 5 GB. Gives the bytes of all weights. */
export function writeRandomCheckpoint(folder: string, shape: string): number {
  const { raw } = shapeConfig(shape);
  writeFileSync(join(folder, "config.json"), JSON.stringify({ ...raw, torch_dtype: "bfloat16" }));
  const shards: Entry[][] = [[]];
  let room = shardBytes;
  for (const entry of tensorsOf(shape)) {
    const bytes = sizeOf(entry);
    if (bytes > room) {
      shards.push([]);
      room = shardBytes;
    }
    shards.at(-1)!.push(entry);
    room -= bytes;
  }
  const weightMap: Record<string, string> = {};
  let total = 0;
  for (const [i, shard] of shards.entries()) {
    const file = `model-${String(i + 1).padStart(5, "0")}-of-${String(shards.length).padStart(5, "0")}.safetensors`;
    total += writeShard(join(folder, file), shard);
    for (const { name } of shard) weightMap[name] = file;
  }
  writeFileSync(join(folder, "model.safetensors.index.json"), JSON.stringify({ weight_map: weightMap }));
  return total;
}

function sizeOf(entry: Entry): number {
  return entry.shape.reduce((n, size) => n * size, 2);
}

/** Random bytes with the exponent's top bit cleared, so that every bfloat16 is a small finite number. */
function writeShard(file: string, entries: readonly Entry[]): number {
  const header: Record<string, unknown> = {};
  let offset = 0;
  for (const entry of entries) {
    header[entry.name] = { dtype: "BF16", shape: entry.shape, data_offsets: [offset, offset + sizeOf(entry)] };
    offset += sizeOf(entry);
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const block = randomFillSync(Buffer.alloc(64 * 2 ** 20));
  for (let i = 1; i < block.length; i += 2) block[i] = (block[i]! & 0x80) | 0x3c;
  const fd = openSync(file, "w");
  try {
    writeSync(fd, length);
    writeSync(fd, json);
    for (let left = offset; left > 0; left -= block.length) writeSync(fd, block, 0, Math.min(left, block.length));
  } finally {
    closeSync(fd);
  }
  return offset;
}
