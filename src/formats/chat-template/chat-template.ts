import { ArgumentError, FormatError, LlcudaError } from "../../base/errors.ts";
import { describeJson, isJsonObject, reasonOf } from "../json.ts";
import { templateGlobals } from "./functions.ts";
import { Environment, Interpreter, type Program, parse, tokenize } from "./library.ts";
import { readTemplateSources, type TemplateSources } from "./source.ts";

/** One turn of a dialogue. Fields beyond these (`tool_calls`, `name`, `reasoning_content`) reach the template as they are. */
export interface ChatMessage {
  readonly role: string;
  readonly content?: string | readonly unknown[] | null;
  readonly [field: string]: unknown;
}

export interface RenderOptions {
  /** End with the beginning of the assistant's answer. Default false, as in transformers. */
  readonly addGenerationPrompt?: boolean;
  /** Descriptions of functions, as JSON schemas. */
  readonly tools?: readonly unknown[] | undefined;
  readonly documents?: readonly unknown[] | undefined;
  /** Which of several templates; by default `tool_use` when there are tools and such a template, else `default`. */
  readonly template?: string | undefined;
  /** Further variables, such as `enable_thinking`. */
  readonly variables?: Readonly<Record<string, unknown>> | undefined;
  /** The date that `strftime_now` formats; the present by default. */
  readonly now?: () => Date;
}

/** Special tokens by their names in templates, `bos_token` and so on. */
export type TemplateTokens = Readonly<Record<string, string>>;

/** The chat template of a model: Jinja, rendered as transformers does (trim_blocks, lstrip_blocks, its functions and filters). */
export class ChatTemplate {
  readonly file: string;
  readonly #sources: ReadonlyMap<string, string>;
  readonly #tokens: TemplateTokens;
  readonly #programs = new Map<string, Program>();

  /** Throws UnsupportedError when the model has no template; `tokens` fill in `bos_token` and its like. */
  static load(directory: string, tokens: TemplateTokens): ChatTemplate {
    return new ChatTemplate(readTemplateSources(directory), tokens);
  }

  constructor(sources: TemplateSources, tokens: TemplateTokens) {
    this.file = sources.file;
    this.#sources = sources.templates;
    this.#tokens = tokens;
  }

  get names(): readonly string[] {
    return [...this.#sources.keys()];
  }

  /** The Jinja text of a template. */
  source(options: Pick<RenderOptions, "template" | "tools"> = {}): string {
    return this.#sources.get(this.#choose(options))!;
  }

  /**
   * The prompt for these messages. Throws ArgumentError for messages that are malformed or that the template refuses,
   * FormatError for a template that is not valid or fails.
   */
  render(messages: readonly ChatMessage[], options: RenderOptions = {}): string {
    checkMessages(messages);
    const program = this.#program(this.#choose(options));
    const variables: Record<string, unknown> = {
      ...templateGlobals(options.now ?? (() => new Date())),
      ...this.#tokens,
      ...options.variables,
      messages,
      tools: options.tools ?? null,
      documents: options.documents ?? null,
      add_generation_prompt: options.addGenerationPrompt ?? false,
    };
    try {
      const environment = new Environment();
      for (const [name, value] of Object.entries(variables)) environment.set(name, value);
      const result = new Interpreter(environment).run(program);
      return String(result.value);
    } catch (cause) {
      if (cause instanceof LlcudaError) throw cause;
      throw new FormatError(this.file, `${this.file}: the chat template failed on these messages: ${reasonOf(cause)}`, {
        cause,
      });
    }
  }

  #choose({ template, tools }: Pick<RenderOptions, "template" | "tools">): string {
    const name = template ?? (tools?.length && this.#sources.has("tool_use") ? "tool_use" : "default");
    if (this.#sources.has(name)) return name;
    throw new ArgumentError(`${this.file}: there is no chat template "${name}"; it has ${this.names.join(", ")}`);
  }

  #program(name: string): Program {
    const known = this.#programs.get(name);
    if (known) return known;
    try {
      const program = parse(tokenize(this.#sources.get(name)!, { lstrip_blocks: true, trim_blocks: true }));
      this.#programs.set(name, program);
      return program;
    } catch (cause) {
      throw new FormatError(this.file, `${this.file}: the chat template "${name}" is not valid: ${reasonOf(cause)}`, {
        cause,
      });
    }
  }
}

/**
 * Roles are words: templates put them between the brackets of special tokens, where anything else could forge one. Parts of
 * other modalities would become placeholder tokens that nothing fills.
 */
function checkMessages(messages: readonly ChatMessage[]): void {
  if (!Array.isArray(messages) || messages.length === 0)
    throw new ArgumentError("messages must be a list of at least one message");
  for (const [i, message] of messages.entries()) {
    const { role, content } = message;
    if (typeof role !== "string" || !/^[A-Za-z][A-Za-z0-9_-]{0,63}$/.test(role)) {
      throw new ArgumentError(`message ${i}: role must be a word such as "user", got ${describeJson(role)}`);
    }
    const types = Array.isArray(content) ? content.map((part) => (isJsonObject(part) ? part.type : undefined)) : [];
    const other = types.find((type) => type !== undefined && type !== "text");
    if (other !== undefined) {
      throw new ArgumentError(
        `message ${i}: content has a part of type ${describeJson(other)}; llcuda runs the language part of a model, which reads parts of type "text"`,
      );
    }
  }
}
