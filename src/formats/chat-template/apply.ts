import type { NamedToken } from "../tokenizer/files.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { type ChatMessage, ChatTemplate, type RenderOptions, type TemplateTokens } from "./chat-template.ts";
import { type TemplateSources, templatesOf } from "./source.ts";

export interface ApplyOptions extends RenderOptions {
  /**
   * Let special tokens that are written out in messages act as tokens, as transformers does. By default they are plain characters:
   * a message cannot end its turn or speak for another role. Ordinary content gets the same ids either way.
   */
  readonly allowSpecialTokensInMessages?: boolean;
}

export interface AppliedTemplate {
  /** The prompt as the template writes it. */
  readonly text: string;
  /** Its ids. The template writes the token that begins a text itself, so none is added. */
  readonly ids: number[];
}

/** Renders a dialogue and encodes it. Throws as `ChatTemplate.render` does. */
export function applyChatTemplate(
  tokenizer: Tokenizer,
  template: ChatTemplate,
  messages: readonly ChatMessage[],
  options: ApplyOptions = {},
): AppliedTemplate {
  const { tools, documents } = options;
  const hidden = tokenizer.hideSpecialTokens({ messages, tools, documents });
  if (options.allowSpecialTokensInMessages || !hidden.found) {
    const text = template.render(messages, options);
    return { text, ids: tokenizer.encode(text, { addSpecialTokens: false }) };
  }
  const { value } = hidden;
  const text = template.render(value.messages, { ...options, tools: value.tools, documents: value.documents });
  return { text: tokenizer.revealHidden(text), ids: tokenizer.encodeHidden(text) };
}

/** Loads the chat template of a model directory with the special tokens of its tokenizer. Throws UnsupportedError without one. */
export function loadChatTemplate(directory: string, tokenizer: Tokenizer): ChatTemplate {
  return ChatTemplate.load(directory, templateTokens(tokenizer));
}

/** Templates that were found elsewhere, with the special tokens of a tokenizer. */
export function chatTemplateOf(sources: TemplateSources, tokenizer: Tokenizer): ChatTemplate {
  return new ChatTemplate(sources, templateTokens(tokenizer));
}

/** A template given as text, in place of the model's own. */
export function chatTemplateFrom(text: string, tokenizer: Tokenizer, file = "chat template"): ChatTemplate {
  return chatTemplateOf({ templates: templatesOf(text, file)!, file }, tokenizer);
}

function templateTokens(tokenizer: Tokenizer): TemplateTokens {
  const tokens: Record<string, string> = {};
  const names: readonly NamedToken[] = [
    "bos_token",
    "eos_token",
    "pad_token",
    "unk_token",
    "sep_token",
    "cls_token",
    "mask_token",
  ];
  for (const name of names) {
    const content = tokenizer.namedToken(name);
    if (content !== undefined) tokens[name] = content;
  }
  return tokens;
}
