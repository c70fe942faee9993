import { createInterface } from "node:readline/promises";
import { ContextLengthError } from "../base/errors.ts";
import type { GenerateOptions, LanguageModel } from "../engine/language-model.ts";
import type { ChatMessage } from "../formats/chat-template/chat-template.ts";
import { dim } from "./terminal.ts";

const help = `  /reset   forget the conversation
  /retry   answer the last question again
  /help    show this
  /exit    leave (or Ctrl-D); Ctrl-C stops an answer`;

/** A chat in the terminal: keeps the dialogue, streams answers, takes a few commands. */
export class Conversation {
  readonly #model: LanguageModel;
  readonly #options: GenerateOptions;
  readonly #opening: readonly ChatMessage[];
  #messages: ChatMessage[];

  constructor(model: LanguageModel, options: GenerateOptions, system?: string) {
    this.#model = model;
    this.#options = options;
    this.#opening = system === undefined ? [] : [{ role: "system", content: system }];
    this.#messages = [...this.#opening];
  }

  /** Reads questions until the input ends. */
  async run(): Promise<void> {
    const input = createInterface({ input: process.stdin, output: process.stdout, prompt: "> " });
    let answering: AbortController | undefined;
    input.on("SIGINT", () => {
      if (answering) answering.abort();
      else input.close();
    });
    process.stdout.write(`${dim("type a message, or /help")}\n`);
    input.prompt();
    for await (const line of input) {
      const text = line.trim();
      if (text === "/exit" || text === "/quit") break;
      answering = new AbortController();
      try {
        await this.#take(text, answering.signal);
      } finally {
        answering = undefined;
      }
      input.prompt();
    }
    input.close();
    process.stdout.write("\n");
  }

  async #take(text: string, signal: AbortSignal): Promise<void> {
    if (text === "") return;
    if (text === "/help") {
      process.stdout.write(`${help}\n`);
    } else if (text === "/reset") {
      this.#messages = [...this.#opening];
    } else if (text === "/retry") {
      while (this.#messages.at(-1)?.role === "assistant") this.#messages.pop();
      if (this.#messages.at(-1)?.role === "user") await this.#answer(signal);
      else process.stdout.write("there is no question yet\n");
    } else if (text.startsWith("/")) {
      process.stdout.write(`${text.split(" ")[0]} is not a command; these are:\n${help}\n`);
    } else {
      this.#messages.push({ role: "user", content: text });
      await this.#answer(signal);
    }
  }

  async #answer(signal: AbortSignal): Promise<void> {
    let text = "";
    try {
      for await (const chunk of this.#model.stream(this.#messages, { ...this.#options, signal })) {
        text += chunk.text;
        process.stdout.write(chunk.text);
      }
      process.stdout.write("\n");
    } catch (error) {
      if (error instanceof ContextLengthError) {
        process.stdout.write(`${error.message}; /reset begins anew\n`);
        this.#messages.pop();
        return;
      }
      if (!signal.aborted) throw error;
      process.stdout.write(`${dim(" (stopped)")}\n`);
    }
    this.#messages.push({ role: "assistant", content: text });
  }
}
