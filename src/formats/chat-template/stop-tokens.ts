import { LlcudaError } from "../../base/errors.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { ChatMessage, ChatTemplate } from "./chat-template.ts";

export interface StopTokenSources {
  readonly tokenizer: Tokenizer;
  /** Of generation_config.json. */
  readonly generationConfig?: { readonly eosTokenIds: readonly number[] } | undefined;
  /** Of config.json. */
  readonly config?: { readonly eosTokenIds: readonly number[] } | undefined;
  /** When the model is used for chat. */
  readonly template?: ChatTemplate | undefined;
}

/**
 * The tokens that end an answer, ascending: what generation_config.json, config.json and the tokenizer call end of sequence, and
 * the token that the chat template ends an assistant's turn with. Checkpoints often name only the end of a document, which a
 * chat model never writes.
 */
export function stopTokenIds({ tokenizer, generationConfig, config, template }: StopTokenSources): number[] {
  const ids = new Set<number>([...(generationConfig?.eosTokenIds ?? []), ...(config?.eosTokenIds ?? [])]);
  if (tokenizer.eosTokenId !== undefined) ids.add(tokenizer.eosTokenId);
  const turnEnd = template && turnEndTokenId(tokenizer, template);
  if (turnEnd !== undefined) ids.add(turnEnd);
  return [...ids].sort((a, b) => a - b);
}

/** An answer that no template contains or changes. */
const sentinel = "llcudaSentinelAnswer";

/**
 * The token that stands right after an assistant's answer, white space aside; undefined when there is none. Where a template leaves
 * its last answer open, what follows the answer in the middle of a dialogue counts.
 */
export function turnEndTokenId(tokenizer: Tokenizer, template: ChatTemplate): number | undefined {
  const dialogue: ChatMessage[] = [
    { role: "user", content: "Hello" },
    { role: "assistant", content: sentinel },
    { role: "user", content: "Thanks" },
  ];
  return tokenAfterAnswer(tokenizer, template, dialogue.slice(0, 2)) ?? tokenAfterAnswer(tokenizer, template, dialogue);
}

function tokenAfterAnswer(tokenizer: Tokenizer, template: ChatTemplate, dialogue: ChatMessage[]): number | undefined {
  let text: string;
  try {
    text = template.render(dialogue);
  } catch (error) {
    if (error instanceof LlcudaError) return undefined; // a template for other dialogues than this says nothing
    throw error;
  }
  const at = text.lastIndexOf(sentinel);
  if (at < 0) return undefined;
  const rest = text.slice(at + sentinel.length).trimStart();
  let longest = "";
  for (const token of tokenizer.addedTokens.keys()) {
    if (token.length > longest.length && rest.startsWith(token)) longest = token;
  }
  return tokenizer.addedTokens.get(longest);
}
