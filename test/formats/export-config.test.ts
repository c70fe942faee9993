import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { bfloat16, float16 } from "../../src/base/dtype.ts";
import { exportedConfig } from "../../src/formats/export/config.ts";
import { parseWithNumerals, stringifyWithNumerals, withFloatNumerals } from "../../src/formats/export/numerals.ts";
import { readRawConfig, writeJson } from "../../src/formats/export/side-files.ts";
import { findModelFiles } from "../../src/formats/model-files/model-files.ts";

const scratch = mkdtempSync(join(tmpdir(), "llcuda-export-config-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const through = (text: string) => stringifyWithNumerals(parseWithNumerals(Buffer.from(text), "config.json", "it"));

describe("the numbers of a config", () => {
  test("keep their spelling, which Python reads types from", () => {
    const text = `{
  "softcap": 10.0,
  "eps": 1e-06,
  "theta": [500000.0, -0.0, 7, 1E+3],
  "big": 1000000000000000019884624838656,
  "text": "10.0 and \\"2.50\\" \\\\"
}`;
    const spelled = through(text).replaceAll(/\s+/g, " ");
    expect(spelled).toBe(
      text.replace("[500000.0, -0.0, 7, 1E+3]", "[ 500000.0, -0.0, 7, 1E+3 ]").replaceAll(/\s+/g, " "),
    );
  });

  test("of a GGUF file are floats where transformers wants floats", () => {
    const config = withFloatNumerals({ final_logit_softcapping: 30, hidden_size: 64, rope_scaling: { factor: 8 } });
    expect(JSON.parse(stringifyWithNumerals(config))).toEqual({
      final_logit_softcapping: 30,
      hidden_size: 64,
      rope_scaling: { factor: 8 },
    });
    expect(stringifyWithNumerals(config)).toMatch(/softcapping": 30\.0,\s+"hidden_size": 64,[\s\S]*"factor": 8\.0/);
  });
});

describe("an exported config", () => {
  test("of the same dtype is the file that it was", () => {
    const gemma = join(import.meta.dirname, "../fixtures/gemma2");
    const path = join(scratch, "config.json");
    writeJson(path, exportedConfig(readRawConfig(findModelFiles(gemma)), { dtype: bfloat16 }));
    expect(readFileSync(path, "utf8")).toBe(readFileSync(join(gemma, "config.json"), "utf8"));
  });

  test("has the dtype under the name that the file has for it, inside too, and no other quantization", () => {
    const old = { torch_dtype: "bfloat16", quantization_config: {}, text_config: { dtype: "bfloat16" } };
    expect(exportedConfig(old, { dtype: float16 })).toEqual({
      torch_dtype: "float16",
      text_config: { dtype: "float16" },
    });
    expect(exportedConfig({}, { dtype: float16 })).toEqual({ torch_dtype: "float16" });
    const nf4 = { type: "nf4", nested: false, skipModules: ["model.layers.0.mlp.gate"] } as const;
    expect(exportedConfig(old, { dtype: float16, fourBit: nf4 }).quantization_config).toMatchObject({
      bnb_4bit_compute_dtype: "float16",
      bnb_4bit_use_double_quant: false,
      llm_int8_skip_modules: ["lm_head", "model.layers.0.mlp.gate"],
    });
    expect(exportedConfig({ tie_word_embeddings: true }, { dtype: float16, hasOwnHead: true })).toMatchObject({
      tie_word_embeddings: false,
    });
  });
});
