import { isJsonObject, type JsonObject, parseJsonObject } from "../json.ts";

/*
 * JSON.parse makes 10 of 10.0, and Python's readers of a config tell them apart: transformers 5 refuses a config whose float is
 * written as an integer. So numbers travel as marked strings with their digits, and lose the marks when they are written.
 */

const mark = "\u0000number:";
/** Strings, to be passed over, and numbers. */
const tokens = /"(?:\\.|[^"\\])*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/** Parses an object whose numbers are kept as they are spelled. `file` is for messages. Throws FormatError. */
export function parseWithNumerals(bytes: Uint8Array, file: string, what: string): JsonObject {
  parseJsonObject(bytes, file, what);
  const text = new TextDecoder().decode(bytes);
  const marked = text.replace(tokens, (token) => (token.startsWith('"') ? token : JSON.stringify(mark + token)));
  return JSON.parse(marked) as JsonObject;
}

/** Fields of a config that transformers declares as floats, or that lie in rotary scalings, which it checks too. */
const floats = new Set([
  ...["attn_logit_softcapping", "final_logit_softcapping", "rope_theta", "rope_local_base_freq", "rms_norm_eps"],
  ...["partial_rotary_factor", "factor", "low_freq_factor", "high_freq_factor", "attention_factor", "beta_fast"],
  ...["beta_slow", "short_factor", "long_factor"],
]);

/** A whole number that is written as a float: 6.0. */
export function floatNumeral(value: number): string {
  return `${mark}${value}.0`;
}

/** A config of ours with the numbers of such fields spelled as floats. */
export function withFloatNumerals(json: JsonObject): JsonObject {
  const convert = (value: unknown, isFloat: boolean): unknown => {
    if (typeof value === "number") return isFloat && Number.isInteger(value) ? floatNumeral(value) : value;
    if (Array.isArray(value)) return value.map((one) => convert(one, isFloat));
    if (!isJsonObject(value)) return value;
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, convert(one, floats.has(name))]));
  };
  return convert(json, false) as JsonObject;
}

/** JSON text, two spaces deep as transformers writes it, with marked numbers as they were spelled. */
export function stringifyWithNumerals(json: JsonObject): string {
  return JSON.stringify(json, null, 2).replace(/"\\u0000number:([-+.\deE]+)"/g, "$1");
}
