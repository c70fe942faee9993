import { describe, expect, test } from "vitest";
import { TextAssembly } from "../../src/engine/text-assembly.ts";
import { AutoTokenizer } from "../../src/models/auto-tokenizer.ts";

const tokenizer = AutoTokenizer.fromPretrained("demo");
const end = tokenizer.eosTokenId!;

function assemble(text: string, stops: string[], last: "stop" | "length") {
  const ids = tokenizer.encode(text, { addSpecialTokens: false });
  if (last === "stop") ids.push(end);
  const assembly = new TextAssembly(5, tokenizer.stream(), stops);
  let streamed = "";
  for (const [i, tokenId] of ids.entries()) {
    streamed += assembly.push({ request: 0, tokenId, finish: i === ids.length - 1 ? last : undefined });
    if (assembly.result) break;
  }
  return { streamed, result: assembly.result! };
}

describe("TextAssembly", () => {
  test("streams what the result holds, without the end token's text", () => {
    const { streamed, result } = assemble("41 + 17 = 58", [], "stop");
    expect(streamed).toBe("41 + 17 = 58");
    expect(result.text).toBe(streamed);
    expect(result.finishReason).toBe("stop");
    expect(result.tokenIds.at(-1)).toBe(end);
    expect(result.promptTokens).toBe(5);
  });

  test.each([
    ["a, b, c, d", ", c", "a, b"],
    ["hello world", "lo wo", "hel"],
    ["abc", "abcd", "abc"],
    ["xxSTOPyy", "STOP", "xx"],
  ])("%j with the stop string %j gives %j", (text, stop, want) => {
    const { streamed, result } = assemble(text, [stop], "length");
    expect(streamed).toBe(want);
    expect(result.text).toBe(want);
    expect(result.finishReason).toBe(text.includes(stop) ? "stop" : "length");
    expect(result.stopString).toBe(text.includes(stop) ? stop : undefined);
  });

  test("never cuts a character, also when the limit comes inside one", () => {
    const { streamed, result } = assemble("né 😀 한", [], "length");
    expect(streamed).toBe("né 😀 한");
    expect(result.text).toBe(streamed);
  });
});
