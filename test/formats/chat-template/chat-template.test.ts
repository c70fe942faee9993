import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ArgumentError, FormatError, UnsupportedError } from "../../../src/base/errors.ts";
import { chatTemplateFrom, loadChatTemplate } from "../../../src/formats/chat-template/apply.ts";
import {
  type ChatMessage,
  ChatTemplate,
  type RenderOptions,
} from "../../../src/formats/chat-template/chat-template.ts";
import { strftime } from "../../../src/formats/chat-template/functions.ts";
import { turnEndTokenId } from "../../../src/formats/chat-template/stop-tokens.ts";
import { Tokenizer } from "../../../src/formats/tokenizer/tokenizer.ts";
import { thrownBy } from "../support.ts";

const fixtures = join(import.meta.dirname, "../../fixtures");
const qwen = Tokenizer.load(join(fixtures, "tok-qwen"));
const hello: ChatMessage[] = [{ role: "user", content: "Hello" }];
const render = (template: string, options: RenderOptions = {}, messages = hello) =>
  chatTemplateFrom(template, qwen).render(messages, options);

let scratch = "";
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "llcuda-template-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function directory(name: string, files: Record<string, unknown>): string {
  const path = join(scratch, name);
  for (const [file, content] of Object.entries(files)) {
    mkdirSync(join(path, file, ".."), { recursive: true });
    writeFileSync(join(path, file), typeof content === "string" ? content : JSON.stringify(content));
  }
  return path;
}

describe("content in parts", () => {
  const template = "{% for m in messages %}{% for p in m.content %}[{{ p.text }}]{% endfor %}{% endfor %}";
  const withParts = (...parts: object[]) => render(template, {}, [{ role: "user", content: parts }]);

  test("of text reaches the template", () => {
    expect(withParts({ type: "text", text: "a" }, { type: "text", text: "b" })).toBe("[a][b]");
  });

  test("of another modality is refused, for nothing would fill its place", () => {
    const error = thrownBy(() => withParts({ type: "text", text: "What is this?" }, { type: "image", url: "x.png" }));
    expect(error).toBeInstanceOf(ArgumentError);
    expect(error?.message).toMatch(/^message 0: content has a part of type "image"; llcuda runs the language part/);
  });
});

describe("where a template comes from", () => {
  const from = (name: string, files: Record<string, unknown>) => ChatTemplate.load(directory(name, files), {});

  test("chat_template.jinja is preferred to the config", () => {
    const template = from("file", {
      "chat_template.jinja": "file",
      "tokenizer_config.json": { chat_template: "config" },
    });
    expect(template.render(hello)).toBe("file");
    expect(template.source()).toBe("file");
  });

  test("the config, as text or as a list with names", () => {
    expect(from("text", { "tokenizer_config.json": { chat_template: "config" } }).render(hello)).toBe("config");
    const list = [
      { name: "default", template: "plain" },
      { name: "tool_use", template: "tools" },
    ];
    const named = from("list", { "tokenizer_config.json": { chat_template: list } });
    expect(named.names).toEqual(["default", "tool_use"]);
    expect(named.render(hello)).toBe("plain");
    expect(named.render(hello, { tools: [] })).toBe("plain");
    expect(named.render(hello, { tools: [{}] })).toBe("tools");
    expect(named.render(hello, { tools: [{}], template: "default" })).toBe("plain");
    expect(thrownBy(() => named.render(hello, { template: "rag" }))?.message).toMatch(
      /no chat template "rag"; it has default, tool_use/,
    );
  });

  test("additional templates beside the file, and chat_template.json", () => {
    const template = from("more", { "chat_template.jinja": "a", "additional_chat_templates/tool_use.jinja": "b" });
    expect(template.render(hello, { tools: [{}] })).toBe("b");
    expect(from("processor", { "chat_template.json": { chat_template: "c" } }).render(hello)).toBe("c");
  });

  test("a model without one says what to do", () => {
    const error = thrownBy(() => loadChatTemplate(join(fixtures, "qwen2-bias"), qwen));
    expect(error).toBeInstanceOf(UnsupportedError);
    expect(error?.message).toMatch(
      /has no chat template; .* use generate with a plain prompt, or put a chat_template\.jinja there/,
    );
  });

  test("malformed ones are refused", () => {
    for (const chat_template of [3, [], [{ name: "x" }], ["x"]]) {
      const path = directory("bad", { "tokenizer_config.json": { chat_template } });
      expect(thrownBy(() => ChatTemplate.load(path, {}))).toBeInstanceOf(FormatError);
    }
    writeFileSync(
      join(directory("bytes", { "chat_template.jinja": "" }), "chat_template.jinja"),
      Uint8Array.of(0xff, 0xfe),
    );
    expect(thrownBy(() => ChatTemplate.load(join(scratch, "bytes"), {}))).toBeInstanceOf(FormatError);
  });
});

describe("rendering", () => {
  test("functions: raise_exception, strftime_now, range, tojson as Python writes it", () => {
    const refused = thrownBy(() => render("{{ raise_exception('Roles must alternate') }}"));
    expect(refused).toBeInstanceOf(ArgumentError);
    expect(refused?.message).toMatch(/the chat template refuses these messages: Roles must alternate/);
    const now = () => new Date(2024, 6, 4, 15, 5, 9);
    expect(render("{{ strftime_now('%d %b %Y, %B %A %H:%M') }}", { now })).toBe("04 Jul 2024, July Thursday 15:05");
    expect(render("{% for i in range(3) %}{{ i }}{% endfor %}{% for i in range(2, 8, 3) %}{{ i }}{% endfor %}")).toBe(
      "01225",
    );
    const tools = [{ name: "f", parameters: { a: [1, 2.5, null, true], text: "é<&>" } }];
    expect(render("{{ tools | tojson }}", { tools })).toBe(
      '[{"name": "f", "parameters": {"a": [1, 2.5, null, true], "text": "é<&>"}}]',
    );
    expect(render("{{ tools[0].parameters.a | tojson(indent=2) }}", { tools })).toBe(
      "[\n  1,\n  2.5,\n  null,\n  true\n]",
    );
  });

  test("variables: special tokens, tools that are none, what callers add", () => {
    expect(render("{{ eos_token }}|{{ bos_token }}|{% if tools is none %}no tools{% endif %}")).toBe(
      "<|im_end|>||no tools",
    );
    expect(render("{% if add_generation_prompt %}go{% endif %}", { addGenerationPrompt: true })).toBe("go");
    expect(render("{% if enable_thinking is defined and enable_thinking %}on{% else %}off{% endif %}")).toBe("off");
    expect(render("{% if enable_thinking %}on{% endif %}", { variables: { enable_thinking: true } })).toBe("on");
  });

  test("white space as transformers sets it: blocks leave no empty lines", () => {
    expect(
      render("{% for m in messages %}\n  {% if true %}\n{{ m.content }}\n  {% endif %}\n{% endfor %}\nend\n"),
    ).toBe("Hello\nend");
  });

  test("fields of messages reach the template", () => {
    const messages = [
      { role: "assistant", content: null, tool_calls: [{ function: { name: "f", arguments: { x: 1 } } }] },
    ];
    expect(render("{{ messages[0].tool_calls[0].function.arguments | tojson }}", {}, messages)).toBe('{"x": 1}');
  });

  test("broken templates and templates that fail are the file's fault", () => {
    expect(thrownBy(() => render("{% if %}"))).toBeInstanceOf(FormatError);
    expect(thrownBy(() => render("{{ 'a' | nosuchfilter }}"))).toBeInstanceOf(FormatError);
    expect(thrownBy(() => render("{{ range(10000000000) }}"))).toBeInstanceOf(ArgumentError);
  });

  test("messages that are not messages are refused", () => {
    for (const messages of [[], [{ role: "" }], [{ role: "user|><|system" }], [{ role: 3 }], [{ content: "x" }]]) {
      expect(thrownBy(() => render("x", {}, messages as ChatMessage[]))).toBeInstanceOf(ArgumentError);
    }
  });
});

describe("the token that ends a turn", () => {
  const turnEnd = (template: string) => {
    const id = turnEndTokenId(qwen, chatTemplateFrom(template, qwen));
    return id === undefined ? undefined : qwen.idToToken(id);
  };

  test("stands behind the answer, white space aside", () => {
    expect(turnEnd("{% for m in messages %}{{ m.content }} \n{{ '<|im_end|>' }}{% endfor %}")).toBe("<|im_end|>");
  });

  test("is what follows in the middle, where the last answer is left open", () => {
    const template =
      "{% for m in messages %}<|im_start|>{{ m.content }}{% if not loop.last %}<|endoftext|>{% endif %}{% endfor %}";
    expect(turnEnd(template)).toBe("<|endoftext|>");
  });

  test("is unknown when the template says nothing or refuses", () => {
    expect(turnEnd("{% for m in messages %}{{ m.content }}.\n{% endfor %}")).toBe(undefined);
    expect(turnEnd("{{ raise_exception('never') }}")).toBe(undefined);
    expect(turnEnd("nothing")).toBe(undefined);
  });
});

test("strftime knows Python's fields and leaves others", () => {
  const date = new Date(2025, 0, 5, 0, 7, 8);
  expect(strftime(date, "%y-%m-%-d %a %I:%M:%S %p %% %Q")).toBe("25-01-5 Sun 12:07:08 AM % %Q");
});
