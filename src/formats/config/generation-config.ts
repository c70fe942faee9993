import { join } from "node:path";
import { listDirectory } from "../directory.ts";
import { type JsonObject, readOptionalJsonFile } from "../json.ts";
import {
  count,
  type FieldSource,
  flag,
  nonNegativeInteger,
  nonNegativeNumber,
  positiveNumber,
  probability,
  readField,
  tokenIds,
} from "./fields.ts";
import { asList } from "./model-config.ts";

/** `generation_config.json`: how the model's makers sample from it. A field that the file does not have is undefined. */
export interface GenerationConfig {
  readonly raw: JsonObject;
  readonly bosTokenId: number | undefined;
  /** Tokens that end an answer; often more than config.json names. */
  readonly eosTokenIds: readonly number[];
  readonly padTokenId: number | undefined;
  /** false asks for greedy decoding. */
  readonly doSample: boolean | undefined;
  readonly temperature: number | undefined;
  readonly topP: number | undefined;
  /** 0 keeps all tokens. */
  readonly topK: number | undefined;
  readonly minP: number | undefined;
  readonly repetitionPenalty: number | undefined;
  readonly maxNewTokens: number | undefined;
  /** Prompt and answer together. */
  readonly maxLength: number | undefined;
}

/** Reads `generation_config.json` of a model directory; all is undefined when there is none. Throws FormatError. */
export function readGenerationConfig(directory: string): GenerationConfig {
  listDirectory(directory);
  const file = join(directory, "generation_config.json");
  return parseGenerationConfig(readOptionalJsonFile(file, "the generation config") ?? {}, file);
}

export function parseGenerationConfig(json: JsonObject, file: string): GenerationConfig {
  const source: FieldSource = { file, prefix: "", json };
  return {
    raw: json,
    bosTokenId: asList(readField(source, "bos_token_id", tokenIds, []))[0],
    eosTokenIds: asList(readField(source, "eos_token_id", tokenIds, [])),
    padTokenId: json.pad_token_id === -1 ? undefined : asList(readField(source, "pad_token_id", tokenIds, []))[0],
    doSample: readField(source, "do_sample", flag, undefined),
    temperature: readField(source, "temperature", nonNegativeNumber, undefined),
    topP: readField(source, "top_p", probability, undefined),
    topK: readField(source, "top_k", nonNegativeInteger, undefined),
    minP: readField(source, "min_p", probability, undefined),
    repetitionPenalty: readField(source, "repetition_penalty", positiveNumber, undefined),
    maxNewTokens: readField(source, "max_new_tokens", count, undefined),
    maxLength: readField(source, "max_length", count, undefined),
  };
}
