import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { FormatError, UnsupportedError } from "../../../src/base/errors.ts";
import { createDecoder } from "../../../src/formats/tokenizer/decoder.ts";
import { Tokenizer } from "../../../src/formats/tokenizer/tokenizer.ts";
import { Utf8Assembler } from "../../../src/formats/tokenizer/utf8.ts";
import { seededInts, thrownBy } from "../support.ts";

const fixtures = join(import.meta.dirname, "../../fixtures");
const tokenizers = ["tok-llama3", "tok-qwen", "tok-llama2", "tok-gemma"].map(
  (name) => [name, Tokenizer.load(join(fixtures, name))] as const,
);
const awkward = [
  "👍🏽👩‍👩‍👧‍👦🏳️‍🌈",
  "안녕하세요, 세계! 한글은 나뉘지 않는다",
  "  two  spaces \n\n\ttabs ",
  "ﬁ ﷽ ꧁ 𒐫 \u200b\ufeff combining e\u0301",
  "plain words and <|eot_id|> </s> <eos> <0x41>",
  "नमस्ते दुनिया 你好世界 مرحبا",
];

/** Pushes ids in random groups and checks that no piece ends within a character. */
function streamed(
  tokenizer: Tokenizer,
  ids: number[],
  next: (limit: number) => number,
  skipSpecialTokens: boolean,
): string {
  const stream = tokenizer.stream({ skipSpecialTokens });
  let text = "";
  for (let i = 0; i < ids.length; ) {
    const size = 1 + next(4);
    const piece = stream.push(ids.slice(i, i + size));
    expect(encodeURIComponent(piece).length).toBeGreaterThan(-1); // throws for half a surrogate pair
    text += piece;
    i += size;
  }
  return text + stream.end();
}

describe.each(tokenizers)("%s streams what it decodes", (_, tokenizer) => {
  test("text of emoji, Hangul and odd spaces, in any split", () => {
    const next = seededInts(7);
    for (let round = 0; round < 300; round++) {
      const text = Array.from({ length: 1 + next(4) }, () => awkward[next(awkward.length)]).join(" ");
      const ids = tokenizer.encode(text);
      for (const skip of [true, false]) {
        expect(streamed(tokenizer, ids, next, skip)).toBe(tokenizer.decode(ids, { skipSpecialTokens: skip }));
      }
      expect(tokenizer.decode(ids, { skipSpecialTokens: true })).not.toMatch(/\ufffd/);
    }
  });

  test("random ids, which are mostly not UTF-8, in any split", () => {
    const next = seededInts(11);
    for (let round = 0; round < 300; round++) {
      const ids = Array.from({ length: next(24) }, () => next(tokenizer.vocabSize + 5));
      for (const skip of [true, false]) {
        expect(streamed(tokenizer, ids, next, skip)).toBe(tokenizer.decode(ids, { skipSpecialTokens: skip }));
      }
    }
  });

  test("a character comes with its last token, not before and not later", () => {
    const ids = tokenizer.encode("a👍b", { addSpecialTokens: false });
    const stream = tokenizer.stream();
    const seen: string[] = [];
    for (const id of ids) seen.push(stream.push(id));
    expect(seen.join("")).toBe("a👍b");
    expect(seen.every((piece) => !piece.includes("\ufffd"))).toBe(true);
    expect(seen.at(-2)).toBe("👍");
    expect(stream.end()).toBe("");
  });

  test("a character that is cut off ends as U+FFFD", () => {
    const ids = tokenizer.encode("👍", { addSpecialTokens: false }).slice(0, -1);
    const stream = tokenizer.stream();
    const before = stream.push(ids);
    expect(before).not.toMatch(/\ufffd/);
    expect(stream.end()).toMatch(/^\ufffd+$/);
  });

  test("work per token does not grow with the text", () => {
    const ids = tokenizer.encode("The quick brown fox. ".repeat(50), { addSpecialTokens: false });
    const stream = tokenizer.stream();
    const start = performance.now();
    let length = 0;
    for (let i = 0; i < 400; i++) length += stream.push(ids).length;
    // 400 times 50 sentences; quadratic work would be minutes.
    expect(length).toBeGreaterThan(400_000);
    expect(performance.now() - start).toBeLessThan(5000);
  });
});

test("a continuation keeps the space that a text's beginning drops", () => {
  const [, llama2] = tokenizers[2]!;
  const ids = llama2.encode("world", { addSpecialTokens: false });
  expect(llama2.stream().push(ids)).toBe("world");
  expect(llama2.stream({ continuation: true }).push(ids)).toBe(" world");
});

describe("UTF-8 from bytes in pieces", () => {
  test("equals the platform's decoder for any bytes, where one replacement stands for each bad sequence", () => {
    const next = seededInts(5);
    const leads = [
      0x41, 0x80, 0xbf, 0xc1, 0xc2, 0xdf, 0xe0, 0xed, 0xef, 0xf0, 0xf4, 0xf5, 0xff, 0x9f, 0xa0, 0x90, 0x8f,
    ];
    for (let round = 0; round < 3000; round++) {
      const bytes = Uint8Array.from({ length: next(12) }, () => leads[next(leads.length)]!);
      const assembler = new Utf8Assembler("perSequence");
      let text = "";
      for (let i = 0; i < bytes.length; ) {
        const size = 1 + next(3);
        text += assembler.push(bytes.subarray(i, i + size));
        i += size;
      }
      text += assembler.flush();
      expect(text).toBe(new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes));
    }
  });

  test("per byte, every byte of a broken character is replaced", () => {
    const assembler = new Utf8Assembler("perByte");
    expect(assembler.push([0xe4, 0xbd]) + assembler.flush()).toBe("\ufffd\ufffd");
    expect(assembler.push([0xe4, 0xbd, 0x41])).toBe("\ufffd\ufffdA");
  });
});

describe("decoders", () => {
  const run = (json: unknown, pieces: string[], continuation = false) => {
    const stage = createDecoder(json, "tokenizer.json")({ continuation });
    return pieces.map((piece) => stage.push(piece)).join("") + stage.flush();
  };

  test("Metaspace drops the first space of a text only", () => {
    const decoder = { type: "Metaspace", replacement: "▁", prepend_scheme: "always" };
    expect(run(decoder, ["▁Hello", "▁world"])).toBe("Hello world");
    expect(run(decoder, ["▁Hello", "▁world"], true)).toBe(" Hello world");
    expect(run({ ...decoder, prepend_scheme: "never" }, ["▁a"])).toBe(" a");
  });

  test("none joins with spaces", () => expect(run(null, ["a", "b"])).toBe("a b"));

  test("Strip after Fuse works on the text's ends, wherever the tokens are cut", () => {
    const decoder = {
      type: "Sequence",
      decoders: [{ type: "Fuse" }, { type: "Strip", content: " ", start: 2, stop: 1 }],
    };
    expect(run(decoder, [" ", "  a ", " ", " b", " ", " "])).toBe(" a   b ");
    expect(run(decoder, ["a", " "])).toBe("a");
  });

  test("Replace takes text and patterns", () => {
    const replace = (pattern: object) => ({
      type: "Sequence",
      decoders: [{ type: "Replace", pattern, content: "$&-" }],
    });
    expect(run(replace({ String: "ab" }), ["abc", "ab"])).toBe("$&-c$&-");
    expect(run({ type: "Replace", pattern: { Regex: "[0-9]+" }, content: "#" }, ["a12", "3"])).toBe("a##");
  });

  test("what cannot work token by token is refused by name", () => {
    for (const json of [
      { type: "WordPiece", prefix: "##" },
      { type: "CTC" },
      { type: "Strip", content: " ", start: 1, stop: 0 },
      { type: "Sequence", decoders: [{ type: "Fuse" }, { type: "Replace", pattern: { String: "ab" }, content: "c" }] },
    ]) {
      expect(thrownBy(() => createDecoder(json, "tokenizer.json"))).toBeInstanceOf(UnsupportedError);
    }
  });

  test("malformed ones are refused", () => {
    const strip = { type: "Strip", content: " ", start: -1, stop: 0 };
    for (const json of [7, [], { type: "Sequence" }, { type: "Replace" }, strip]) {
      const decoder = { type: "Sequence", decoders: [{ type: "Fuse" }, json] };
      expect(thrownBy(() => createDecoder(decoder, "tokenizer.json"))).toBeInstanceOf(FormatError);
    }
  });
});
