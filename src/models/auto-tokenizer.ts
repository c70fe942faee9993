import {
  type AppliedTemplate,
  type ApplyOptions,
  applyChatTemplate,
  loadChatTemplate,
} from "../formats/chat-template/apply.ts";
import type { ChatMessage, ChatTemplate } from "../formats/chat-template/chat-template.ts";
import { readTokenizerFiles } from "../formats/tokenizer/files.ts";
import { Tokenizer } from "../formats/tokenizer/tokenizer.ts";
import { resolveModelPath } from "./model-path.ts";

/** A model's tokenizer together with its chat template. */
export class PretrainedTokenizer extends Tokenizer {
  readonly directory: string;
  #template: ChatTemplate | undefined;

  constructor(directory: string) {
    super(readTokenizerFiles(directory));
    this.directory = directory;
  }

  /** Throws UnsupportedError when the model has none. */
  get chatTemplate(): ChatTemplate {
    this.#template ??= loadChatTemplate(this.directory, this);
    return this.#template;
  }

  /** The prompt for a dialogue, as text and as ids. By default it ends with the beginning of the assistant's answer. */
  applyChatTemplate(messages: readonly ChatMessage[], options: ApplyOptions = {}): AppliedTemplate {
    return applyChatTemplate(this, this.chatTemplate, messages, { addGenerationPrompt: true, ...options });
  }
}

export const AutoTokenizer = {
  /** Loads the tokenizer of a model directory, or of `demo`. Throws FileError or FormatError. */
  fromPretrained(name: string): PretrainedTokenizer {
    return new PretrainedTokenizer(resolveModelPath(name));
  },
} as const;
