import {
  type AppliedTemplate,
  type ApplyOptions,
  applyChatTemplate,
  chatTemplateOf,
} from "../formats/chat-template/apply.ts";
import type { ChatMessage, ChatTemplate } from "../formats/chat-template/chat-template.ts";
import type { ModelFiles } from "../formats/model-files/model-files.ts";
import { Tokenizer } from "../formats/tokenizer/tokenizer.ts";
import { findModel } from "./find-model.ts";

/** A model's tokenizer together with its chat template. */
export class PretrainedTokenizer extends Tokenizer {
  readonly #files: ModelFiles;
  #template: ChatTemplate | undefined;

  constructor(files: ModelFiles) {
    super(files.readTokenizer());
    this.#files = files;
  }

  /** Throws UnsupportedError when the model has none. */
  get chatTemplate(): ChatTemplate {
    this.#template ??= chatTemplateOf(this.#files.readTemplates(), this);
    return this.#template;
  }

  /** The prompt for a dialogue, as text and as ids. By default it ends with the beginning of the assistant's answer. */
  applyChatTemplate(messages: readonly ChatMessage[], options: ApplyOptions = {}): AppliedTemplate {
    return applyChatTemplate(this, this.chatTemplate, messages, { addGenerationPrompt: true, ...options });
  }
}

export const AutoTokenizer = {
  /** Loads the tokenizer of a model or adapter directory, of a GGUF file, or of `demo`. Throws FileError or FormatError. */
  fromPretrained(name: string, options: { readonly base?: string | undefined } = {}): PretrainedTokenizer {
    return new PretrainedTokenizer(findModel(name, options.base));
  },
} as const;
