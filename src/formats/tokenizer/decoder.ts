import { FormatError, UnsupportedError } from "../../base/errors.ts";
import { describeJson, isJsonObject } from "../json.ts";
import {
  ByteFallbackStage,
  ByteLevelStage,
  JoinStage,
  MetaspaceStage,
  ReplaceStage,
  type Stage,
  StripStage,
} from "./stages.ts";

/** Where in a text the tokens stand: at its beginning, or after others, whose leading-space rule then is spent. */
export interface DecoderStart {
  readonly continuation: boolean;
}

/** Makes a fresh chain of stages for one text. */
export type DecoderFactory = (start: DecoderStart) => Stage;

type StageFactory = (start: DecoderStart) => Stage;

/**
 * Builds the token-by-token form of the `decoder` in tokenizer.json. `file` is for messages.
 * Throws UnsupportedError for a decoder that cannot work that way (WordPiece, CTC), FormatError for a malformed one.
 */
export function createDecoder(json: unknown, file: string): DecoderFactory {
  const factories = json === null || json === undefined ? [joining] : stagesOf(json, file, { fused: false });
  if (factories.length === 1) return factories[0]!;
  return (start) => new Chain(factories.map((make) => make(start)));
}

const joining: StageFactory = ({ continuation }) => new JoinStage(continuation);

function stagesOf(json: unknown, file: string, state: { fused: boolean }): StageFactory[] {
  if (!isJsonObject(json)) throw new FormatError(file, `${file}: decoder must be an object, got ${describeJson(json)}`);
  switch (json.type) {
    case "Sequence": {
      if (!Array.isArray(json.decoders)) throw malformed(json, file);
      return json.decoders.flatMap((one) => stagesOf(one, file, state));
    }
    case "Fuse":
      state.fused = true; // the stages join what they are given anyway
      return [];
    case "ByteLevel":
      state.fused = true;
      return [() => new ByteLevelStage()];
    case "ByteFallback":
      return [() => new ByteFallbackStage()];
    case "Replace":
      return [replacing(json, file, state.fused)];
    case "Strip":
      return [stripping(json, file, state.fused)];
    case "Metaspace": {
      const replacement = typeof json.replacement === "string" ? json.replacement : "\u2581";
      const drops = json.prepend_scheme !== "never" && json.add_prefix_space !== false;
      return [({ continuation }) => new MetaspaceStage(replacement, drops && !continuation)];
    }
    default:
      throw new UnsupportedError(
        `${file}: decoder ${describeJson(json.type)} is not supported; known are ByteLevel, Metaspace, ByteFallback, Replace, Strip, Fuse and Sequence`,
      );
  }
}

function replacing(json: { readonly [key: string]: unknown }, file: string, fused: boolean): StageFactory {
  const { pattern, content } = json;
  if (!isJsonObject(pattern) || typeof content !== "string") throw malformed(json, file);
  const isText = typeof pattern.String === "string" && pattern.String !== "";
  if (!isText && typeof pattern.Regex !== "string") throw malformed(json, file);
  if (fused && !(isText && [...(pattern.String as string)].length === 1)) {
    throw new UnsupportedError(
      `${file}: decoder Replace ${describeJson(pattern)} after Fuse could match across tokens`,
    );
  }
  return () => new ReplaceStage(pattern, content);
}

function stripping(json: { readonly [key: string]: unknown }, file: string, fused: boolean): StageFactory {
  const { content, start, stop } = json;
  const isCount = (n: unknown): n is number => Number.isInteger(n) && (n as number) >= 0 && (n as number) <= 64;
  if (typeof content !== "string" || !isCount(start) || !isCount(stop)) throw malformed(json, file);
  if (!fused)
    throw new UnsupportedError(`${file}: decoder Strip before Fuse, which would strip every token, is not supported`);
  return ({ continuation }) => new StripStage(content, continuation ? 0 : start, stop);
}

function malformed(json: { readonly [key: string]: unknown }, file: string): FormatError {
  return new FormatError(file, `${file}: decoder ${describeJson(json)} is malformed`);
}

/** Feeds what one stage gives out to the next. */
class Chain implements Stage {
  readonly #stages: readonly Stage[];

  constructor(stages: readonly Stage[]) {
    this.#stages = stages;
  }

  push(piece: string): string {
    return this.#from(0, piece);
  }

  flush(): string {
    let text = "";
    for (let i = 0; i < this.#stages.length; i++) {
      const rest = this.#stages[i]!.flush();
      if (rest !== "") text += this.#from(i + 1, rest);
    }
    return text;
  }

  #from(first: number, piece: string): string {
    let text = piece;
    for (let i = first; i < this.#stages.length && text !== ""; i++) text = this.#stages[i]!.push(text);
    return text;
  }
}
