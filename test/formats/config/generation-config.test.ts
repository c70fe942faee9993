import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { FormatError } from "../../../src/base/errors.ts";
import { parseGenerationConfig, readGenerationConfig } from "../../../src/formats/config/generation-config.ts";
import { thrownBy } from "../support.ts";

const fixtures = join(import.meta.dirname, "../../fixtures");

describe("generation_config.json", () => {
  test("the demonstration model's", () => {
    const config = readGenerationConfig(join(fixtures, "../../models/demo"));
    expect(config.eosTokenIds).toEqual([1023, 1020]);
    expect([config.doSample, config.temperature, config.topP]).toEqual([true, 0.7, 0.9]);
    expect([config.topK, config.minP, config.maxNewTokens]).toEqual([undefined, undefined, undefined]);
  });

  test("a directory without one gives nothing", () => {
    const config = readGenerationConfig(join(fixtures, "tok-qwen"));
    expect([config.eosTokenIds.length, config.doSample, config.bosTokenId]).toEqual([0, undefined, undefined]);
    expect(thrownBy(() => readGenerationConfig(join(fixtures, "absent")))?.message).toMatch(/no such directory/);
  });

  test("every field", () => {
    const config = parseGenerationConfig(
      {
        eos_token_id: 3,
        top_k: 0,
        min_p: 0.05,
        repetition_penalty: 1.1,
        max_new_tokens: 9,
        max_length: 20,
        do_sample: false,
      },
      "generation_config.json",
    );
    expect(config.eosTokenIds).toEqual([3]);
    expect([config.topK, config.minP, config.repetitionPenalty]).toEqual([0, 0.05, 1.1]);
    expect([config.maxNewTokens, config.maxLength, config.doSample]).toEqual([9, 20, false]);
  });

  test.each<[object, RegExp]>([
    [{ temperature: -1 }, /temperature is -1; expected a number of at least 0/],
    [{ temperature: "hot" }, /temperature is "hot"/],
    [{ top_p: 1.5 }, /top_p is 1\.5; expected a number from 0 to 1/],
    [{ top_k: 2.5 }, /top_k is 2\.5; expected an integer of at least 0/],
    [{ min_p: -0.1 }, /min_p is -0\.1/],
    [{ max_new_tokens: 0 }, /max_new_tokens is 0; expected a positive integer/],
    [{ do_sample: "yes" }, /do_sample is "yes"; expected true or false/],
  ])("%j is refused", (json, message) => {
    const error = thrownBy(() => parseGenerationConfig({ ...json }, "generation_config.json"));
    expect(error).toBeInstanceOf(FormatError);
    expect(error?.message).toMatch(message);
  });
});
