import { describe, expect, test } from "vitest";
import { ArgumentError } from "../../../src/base/errors.ts";
import { StopMatcher } from "../../../src/formats/tokenizer/stop-matcher.ts";
import { seededInts, thrownBy } from "../support.ts";

/** The definition: the stop that is complete first, the longest of those that end together. */
function reference(text: string, stops: string[]): { text: string; stop: string | undefined } {
  for (let end = 1; end <= text.length; end++) {
    const ending = stops.filter((stop) => text.slice(0, end).endsWith(stop)).sort((a, b) => b.length - a.length);
    if (ending[0]) return { text: text.slice(0, end - ending[0].length), stop: ending[0] };
  }
  return { text, stop: undefined };
}

function run(pieces: string[], stops: string[]): { text: string; stop: string | undefined } {
  const matcher = new StopMatcher(stops);
  let text = "";
  for (const piece of pieces) {
    const result = matcher.push(piece);
    text += result.text;
    if (result.stop !== undefined) return { text, stop: result.stop };
  }
  return { text: text + matcher.end(), stop: undefined };
}

describe("StopMatcher", () => {
  test("finds a stop across three pieces", () => {
    expect(run(["Hello<", "|im_", "end", "|>more"], ["<|im_end|>"])).toEqual({ text: "Hello", stop: "<|im_end|>" });
  });

  test("holds back only what may become a stop, and lets it go when it does not", () => {
    const matcher = new StopMatcher(["\n\nUser:"]);
    expect(matcher.push("a\n").text).toBe("a");
    expect(matcher.push("\n").text).toBe("");
    expect(matcher.push("\n").text).toBe("\n");
    expect(matcher.push("Us").text).toBe("");
    expect(matcher.push("e ").text).toBe("\n\nUse ");
    expect(matcher.push("\n\nUser").text).toBe("");
    expect(matcher.end()).toBe("\n\nUser");
  });

  test("without stops nothing is held", () => {
    expect(new StopMatcher([]).push("abc")).toEqual({ text: "abc", stop: undefined });
  });

  test("after a stop nothing more comes out", () => {
    const matcher = new StopMatcher(["x"]);
    matcher.push("ax");
    expect(matcher.push("b")).toEqual({ text: "", stop: "x" });
    expect(matcher.end()).toBe("");
  });

  test("an empty stop is refused", () => {
    expect(thrownBy(() => new StopMatcher(["a", ""]))).toBeInstanceOf(ArgumentError);
  });

  test("random texts, stops and splits agree with the definition", () => {
    const next = seededInts(3);
    const alphabet = ["a", "b", "👍", "👎", "한"];
    const word = (length: number) => Array.from({ length }, () => alphabet[next(alphabet.length)]).join("");
    for (let round = 0; round < 5000; round++) {
      const text = word(next(14));
      const stops = Array.from({ length: 1 + next(3) }, () => word(1 + next(4)));
      const pieces: string[] = [];
      for (let i = 0; i < text.length; ) {
        const size = 1 + next(4); // in UTF-16 units: within emoji as well
        pieces.push(text.slice(i, i + size));
        i += size;
      }
      expect(run(pieces, stops)).toEqual(reference(text, stops));
    }
  });

  test("every split of emoji, Hangul and joined sequences in two", () => {
    const text = "one👩‍👩‍👧 두 번 STOP 끝";
    for (let cut = 0; cut <= text.length; cut++) {
      expect(run([text.slice(0, cut), text.slice(cut)], ["STOP"])).toEqual({ text: "one👩‍👩‍👧 두 번 ", stop: "STOP" });
    }
  });

  test("text is never given out twice or held longer than the stop", () => {
    const next = seededInts(9);
    const matcher = new StopMatcher(["aab", "abab"]);
    let given = 0;
    for (let i = 0; i < 2000; i++) {
      const result = matcher.push(next(2) === 0 ? "a" : "c");
      given += result.text.length;
      expect(i + 1 - given).toBeLessThan(4);
    }
    given += matcher.end().length;
    expect(given).toBe(2000);
  });
});
