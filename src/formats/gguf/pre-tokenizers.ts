import { UnsupportedError } from "../../base/errors.ts";
import { isJsonObject, type JsonObject } from "../json.ts";

/** How byte-level BPE cuts text into words before it merges, and what comes with it, by the names in `tokenizer.ggml.pre`. */
export interface PreTokenizer {
  /** Each cuts what the one before left: matches stand alone, and so does what is between them. */
  readonly splits: readonly string[];
  /** A word that is a token as a whole is not built by merges. */
  readonly ignoreMerges?: boolean;
  /** Whether a text begins with the beginning token where the file does not say. */
  readonly addsBos?: boolean;
  /** Text is composed (Unicode NFC) first, as the tokenizer.json of these models has it; GGUF files do not say. */
  readonly composes?: boolean;
}

const contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const spaces = "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
/** Letters and combining marks by case, as o200k and Tekken cut them. */
const upper = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]";
const lower = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";
const joined = "[^\\r\\n\\p{L}\\p{N}]?";

const words = (digits: string) => `${contractions}|${joined}\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${spaces}`;
const casedWords = (suffix: string, digits: string) =>
  `${joined}${upper}*${lower}+${suffix}|${joined}${upper}+${lower}*${suffix}|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${spaces}`;

const gpt2Words = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const llama3: PreTokenizer = { splits: [words("\\p{N}{1,3}")], ignoreMerges: true, addsBos: true };
const cl100k: PreTokenizer = { splits: [words("\\p{N}{1,3}")] };
const singleDigits: PreTokenizer = { splits: [words("\\p{N}")] };
const qwen2: PreTokenizer = { ...singleDigits, composes: true };
const gpt2: PreTokenizer = { splits: [gpt2Words] };
const starcoder: PreTokenizer = { splits: ["\\p{N}", gpt2Words] };
const tekken: PreTokenizer = { splits: [casedWords("", "\\p{N}")], ignoreMerges: true, addsBos: true };
const o200k: PreTokenizer = { splits: [casedWords(`${contractions}?`, "\\p{N}{1,3}")] };
const deepseek3: PreTokenizer = {
  splits: [
    "\\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    `[!"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_\`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|${spaces}`,
  ],
};
/** What llama.cpp does with files from before it wrote the name. */
const unnamed: PreTokenizer = { splits: ["[\\p{P}\\$\\+<=>\\^~\\|]+", gpt2Words, "\\p{N}+", "[0-9][0-9][0-9]"] };

/** Source: the names in llama.cpp's vocabulary code; the expressions are those of the models' own tokenizer.json. */
const byName = new Map<string, PreTokenizer>([
  ...name(unnamed, "default"),
  ...name(llama3, "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"),
  ...name(cl100k, "dbrx", "smaug-bpe", "glm4", "chatglm-bpe"),
  ...name(qwen2, "qwen2", "deepseek-r1-qwen", "megrez"),
  ...name(singleDigits, "stablelm2", "hunyuan", "solar-open", "grok-2", "kormo"),
  ...name(gpt2, "gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "exaone4", "gigachat", "a.x-4.0", "mellum"),
  ...name(starcoder, "starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b"),
  ...name(tekken, "tekken"),
  ...name(o200k, "gpt-4o", "llama4", "kanana2"),
  ...name(deepseek3, "deepseek-v3", "hunyuan-dense"),
]);

function name(one: PreTokenizer, ...names: string[]): [string, PreTokenizer][] {
  return names.map((key) => [key, one]);
}

/** Throws UnsupportedError that lists the known names. */
export function findPreTokenizer(wanted: string, file: string): PreTokenizer {
  const found = byName.get(wanted);
  if (found) return found;
  throw new UnsupportedError(
    `${file}: pre-tokenizer "${wanted}" (tokenizer.ggml.pre) is not supported; known are ${[...byName.keys()].join(", ")}`,
  );
}

/**
 * The name of a tokenizer.json's way to cut words; `model` decides between names that differ by `ignore_merges`. Throws
 * UnsupportedError when it has none.
 */
export function preTokenizerName(preTokenizer: unknown, model: JsonObject, file: string): string {
  const splits = JSON.stringify(splitsOf(preTokenizer));
  const same = [...byName].filter(([, one]) => JSON.stringify(one.splits) === splits);
  const found = same.find(([, one]) => Boolean(one.ignoreMerges) === Boolean(model.ignore_merges)) ?? same[0];
  if (found) return found[0];
  throw new UnsupportedError(`${file}: the way it cuts text into words (pre_tokenizer) has no name in GGUF`);
}

/** The expressions of a pre-tokenizer that ends in bytes; undefined where it does something else. */
function splitsOf(preTokenizer: unknown): string[] | undefined {
  if (!isJsonObject(preTokenizer)) return undefined;
  switch (preTokenizer.type) {
    case "Sequence": {
      const parts = Array.isArray(preTokenizer.pretokenizers) ? preTokenizer.pretokenizers.map(splitsOf) : [undefined];
      return parts.includes(undefined) ? undefined : parts.flatMap((part) => part!);
    }
    case "Split": {
      const { pattern, behavior, invert } = preTokenizer;
      const regex = isJsonObject(pattern) && typeof pattern.Regex === "string" ? pattern.Regex : undefined;
      return regex !== undefined && behavior === "Isolated" && !invert ? [regex] : undefined;
    }
    case "Digits":
      return preTokenizer.individual_digits ? ["\\p{N}"] : undefined;
    case "ByteLevel":
      return preTokenizer.use_regex === false ? [] : [gpt2Words];
    default:
      return undefined;
  }
}

/** The `pre_tokenizer` of a tokenizer.json. */
export function preTokenizerJson({ splits }: PreTokenizer): JsonObject {
  const pretokenizers = splits.map((regex) => ({
    type: "Split",
    pattern: { Regex: regex },
    behavior: "Isolated",
    invert: false,
  }));
  const bytes = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false };
  return { type: "Sequence", pretokenizers: [...pretokenizers, bytes] };
}
