import { createInterface } from "node:readline/promises";
import { ContextLengthError } from "../base/errors.ts";
import type { GenerateOptions } from "../engine/generate-options.ts";
import type { LanguageModel } from "../engine/language-model.ts";
import type { ChatMessage } from "../formats/chat-template/chat-template.ts";
import { dim } from "./terminal.ts";

const help = `  """      begins a message of several lines, and ends it
  /reset   forget the conversation
  /retry   answer the last question again
  /help    show this
  /exit    leave (or Ctrl-D); Ctrl-C stops an answer`;

const fence = '"""';

/** Where a conversation takes place; by default the process's own streams. */
export interface Terminal {
  readonly input: NodeJS.ReadableStream & { readonly isTTY?: boolean };
  readonly output: NodeJS.WritableStream;
}

/**
 * A chat in the terminal: keeps the dialogue, streams answers, takes a few commands. Without a terminal (input from a pipe)
 * each line is a message, and nothing but answers is printed.
 */
export class Conversation {
  readonly #model: Pick<LanguageModel, "stream">;
  readonly #options: GenerateOptions;
  readonly #opening: readonly ChatMessage[];
  readonly #terminal: Terminal;
  #messages: ChatMessage[];

  constructor(
    model: Pick<LanguageModel, "stream">,
    options: GenerateOptions,
    system?: string,
    terminal: Terminal = { input: process.stdin, output: process.stdout },
  ) {
    this.#model = model;
    this.#options = options;
    this.#opening = system === undefined ? [] : [{ role: "system", content: system }];
    this.#messages = [...this.#opening];
    this.#terminal = terminal;
  }

  /** Reads messages until the input ends. */
  async run(): Promise<void> {
    const { input, output } = this.#terminal;
    const interactive = input.isTTY === true;
    const unfinished: string[] = [];
    const lines = createInterface({ input, output, terminal: interactive });
    const prompt = (text: string) => {
      if (!interactive) return;
      lines.setPrompt(text);
      lines.prompt();
    };
    let answering: AbortController | undefined;
    let leaving = false;
    lines.on("SIGINT", () => {
      if (answering) return answering.abort();
      if (leaving && lines.line === "") return lines.close();
      leaving = true;
      this.#print(`\n${dim("Ctrl-C again, Ctrl-D or /exit leaves")}\n`);
      lines.write(null, { ctrl: true, name: "u" }); // what was typed so far goes
      prompt(unfinished.length > 0 ? ". " : "> ");
    });
    if (interactive) this.#print(`${dim("type a message, or /help")}\n`);
    prompt("> ");
    try {
      for await (const line of lines) {
        leaving = false;
        const message = collectLines(unfinished, line);
        if (message === undefined) {
          prompt(". ");
          continue;
        }
        if (message === "/exit" || message === "/quit") break;
        answering = new AbortController();
        await this.#take(message, answering.signal);
        answering = undefined;
        prompt("> ");
      }
    } finally {
      lines.close();
      if (interactive) this.#print("\n");
    }
  }

  async #take(message: string, signal: AbortSignal): Promise<void> {
    if (message === "") return;
    if (message === "/help") {
      this.#print(`${help}\n`);
    } else if (message === "/reset") {
      this.#messages = [...this.#opening];
    } else if (message === "/retry") {
      while (this.#messages.at(-1)?.role === "assistant") this.#messages.pop();
      if (this.#messages.at(-1)?.role === "user") await this.#answer(signal);
      else this.#print("there is no question yet\n");
    } else if (/^\/\w+$/.test(message)) {
      this.#print(`${message} is not a command; these are:\n${help}\n`);
    } else {
      this.#messages.push({ role: "user", content: message });
      await this.#answer(signal);
    }
  }

  async #answer(signal: AbortSignal): Promise<void> {
    let text = "";
    try {
      const answer = this.#model.stream(this.#messages, { ...this.#options, signal });
      let next = await answer.next();
      for (; !next.done; next = await answer.next()) {
        text += next.value.text;
        this.#print(next.value.text);
      }
      const isCut = next.value.finishReason === "length" && this.#options.maxNewTokens === undefined;
      this.#print(isCut ? `${dim(" (the context is full; /reset begins anew)")}\n` : "\n");
    } catch (error) {
      if (error instanceof ContextLengthError) {
        this.#print(`${error.message}; /reset begins anew\n`);
        this.#messages.pop();
        return;
      }
      if (!signal.aborted) throw error;
      this.#print(`${dim(" (stopped)")}\n`);
    }
    this.#messages.push({ role: "assistant", content: text });
  }

  #print(text: string): void {
    this.#terminal.output.write(text);
  }
}

/** The message that `line` completes, or undefined inside a fenced one, whose lines are kept in `unfinished`. */
function collectLines(unfinished: string[], line: string): string | undefined {
  if (unfinished.length === 0 && !line.trimStart().startsWith(fence)) return line.trim();
  unfinished.push(line);
  const message = unfinished.join("\n").trim();
  if (message.length < 2 * fence.length || !message.endsWith(fence)) return undefined;
  unfinished.length = 0;
  return message.slice(fence.length, -fence.length).trim();
}
