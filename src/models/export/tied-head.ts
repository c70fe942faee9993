import type { LoraAdapter } from "../../formats/peft/adapter.ts";
import type { TensorInfo, WeightSource } from "../../formats/weight-source.ts";

const chunkBytes = 1 << 24;

/** A name of a head, as a module or as its weight. */
export function isHead(name: string): boolean {
  return /(^|\.)lm_head(\.weight)?$/.test(name);
}

function isEmbedding(name: string): boolean {
  return /(^|\.)embed_tokens(\.weight)?$/.test(name);
}

/**
 * Whether an adapter has for the head what it has for the embedding, byte by byte: of a model in which they are one weight, PEFT may
 * save it as two.
 */
export function savesHeadTwice({ modules, replaced, tokens, source }: LoraAdapter): boolean {
  if ([...modules.keys()].some((name) => isHead(name) || isEmbedding(name))) return false;
  const [head, embedding] = [isHead, isEmbedding].map((is) => ({
    whole: [...replaced].find(([name]) => is(name))?.[1],
    rows: tokens.find(({ name }) => is(name)),
  }));
  const { whole, rows } = head!;
  if (!whole && !rows) return false;
  if (!whole !== !embedding!.whole || (whole && !hasSameBytes(source, whole, embedding!.whole!))) return false;
  if (!rows) return true; // those of the embedding, if there are any, are for both
  if (String(rows.tokens) !== String(embedding!.rows?.tokens)) return false;
  return hasSameBytes(source, rows.rows, embedding!.rows!.rows);
}

function hasSameBytes(source: WeightSource, a: TensorInfo, b: TensorInfo): boolean {
  if (a.dtype !== b.dtype || String(a.shape) !== String(b.shape)) return false;
  for (let at = 0; at < a.byteLength; at += chunkBytes) {
    const [left, right] = [a, b].map((info) => {
      const bytes = Buffer.alloc(Math.min(chunkBytes, info.byteLength - at));
      source.readIntoSync(info, at, bytes);
      return bytes;
    });
    if (!left!.equals(right!)) return false;
  }
  return true;
}
