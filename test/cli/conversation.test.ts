import { PassThrough } from "node:stream";
import { describe, expect, test } from "vitest";
import { ContextLengthError, OutOfMemoryError } from "../../src/base/errors.ts";
import { Conversation } from "../../src/cli/conversation.ts";
import type { GenerateOptions } from "../../src/engine/generate-options.ts";
import type { GenerationChunk, Prompt } from "../../src/engine/language-model.ts";
import type { GenerationResult } from "../../src/engine/text-assembly.ts";
import type { ChatMessage } from "../../src/formats/chat-template/chat-template.ts";

/** Answers with what `reply` says to the dialogue so far, in two pieces. */
class FakeModel {
  readonly dialogues: ChatMessage[][] = [];
  readonly #reply: (messages: readonly ChatMessage[]) => string;
  finishReason: "stop" | "length" = "stop";

  constructor(reply: (messages: readonly ChatMessage[]) => string) {
    this.#reply = reply;
  }

  async *stream(prompt: Prompt, _options?: GenerateOptions): AsyncGenerator<GenerationChunk, GenerationResult> {
    const messages = [...(prompt as readonly ChatMessage[])];
    this.dialogues.push(messages);
    const text = this.#reply(messages);
    yield { text: text.slice(0, 2), tokenId: 1 };
    yield { text: text.slice(2), tokenId: 2 };
    return { text, tokenIds: [1, 2], finishReason: this.finishReason, stopString: undefined, promptTokens: 1 };
  }
}

/** What a conversation prints when these lines come through a pipe. */
async function converse(model: FakeModel, lines: string, system?: string): Promise<string> {
  const input = new PassThrough();
  const output = new PassThrough();
  let printed = "";
  output.setEncoding("utf8").on("data", (text: string) => {
    printed += text;
  });
  input.end(lines);
  await new Conversation(model, {}, system, { input, output }).run();
  await new Promise((resolve) => setImmediate(resolve));
  return printed;
}

const echo = () => new FakeModel((messages) => `you said ${messages.at(-1)?.content}`);

describe("a conversation through a pipe", () => {
  test("prints answers alone, and keeps the dialogue", async () => {
    const model = echo();
    expect(await converse(model, "one\n\n  two  \n")).toBe("you said one\nyou said two\n");
    expect(model.dialogues[1]).toEqual([
      { role: "user", content: "one" },
      { role: "assistant", content: "you said one" },
      { role: "user", content: "two" },
    ]);
  });

  test("opens with the system message, also after /reset", async () => {
    const model = echo();
    await converse(model, "one\n/reset\ntwo\n", "Be brief.");
    expect(model.dialogues[1]).toEqual([
      { role: "system", content: "Be brief." },
      { role: "user", content: "two" },
    ]);
  });

  test("/retry asks the last question again", async () => {
    const model = echo();
    expect(await converse(model, "/retry\none\n/retry\n")).toBe(
      "there is no question yet\nyou said one\nyou said one\n",
    );
    expect(model.dialogues[1]).toEqual([{ role: "user", content: "one" }]);
  });

  test("takes several lines as one message between quotes", async () => {
    const model = echo();
    await converse(model, '"""first\nsecond\n\nthird"""\n"""one line"""\n');
    expect(model.dialogues[0]?.[0]?.content).toBe("first\nsecond\n\nthird");
    expect(model.dialogues[1]?.at(-1)?.content).toBe("one line");
  });

  test("ends at /exit; a slash alone does not make a command", async () => {
    const model = echo();
    expect(await converse(model, "/etc/hosts is what?\n/exit\nmore\n")).toBe("you said /etc/hosts is what?\n");
    expect(await converse(echo(), "/nope\n")).toContain("/nope is not a command");
  });

  test("goes on after a prompt that no longer fits, without it", async () => {
    const model = new FakeModel((messages) => {
      if (messages.length > 2) throw new ContextLengthError("the prompt has 9 tokens, but 8 fit", 9, 8);
      return "fine";
    });
    const printed = await converse(model, "one\ntwo\n/reset\nthree\n");
    expect(printed).toBe("fine\nthe prompt has 9 tokens, but 8 fit; /reset begins anew\nfine\n");
  });

  test("says so when an answer fills the context", async () => {
    const model = echo();
    model.finishReason = "length";
    expect(await converse(model, "one\n")).toBe("you said one (the context is full; /reset begins anew)\n");
  });

  test("lets other errors end it", async () => {
    const model = new FakeModel(() => {
      throw new OutOfMemoryError("device memory ran out", 2, 1);
    });
    await expect(converse(model, "one\ntwo\n")).rejects.toThrow("device memory ran out");
    expect(model.dialogues.length).toBe(1);
  });
});
