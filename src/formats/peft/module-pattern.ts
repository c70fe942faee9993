import { FormatError, UnsupportedError } from "../../base/errors.ts";
import { describeJson } from "../json.ts";

const maxLength = 500;
/** With as many, matching a module's name takes at most its length to this power of steps. */
const maxQuantifiers = 3;

/**
 * Whether a module's name ends, at a dot, in what a key of `rank_pattern` or `alpha_pattern` says: a name, or a regular expression as
 * Python writes it. Expressions come from files, so only those are run that cannot take long: no repeated groups, few
 * repetitions. Throws UnsupportedError for others, FormatError for none. `place` is for messages.
 */
export function modulePattern(key: string, place: string): (module: string) => boolean {
  if (/^[\w.-]+$/.test(key)) return (module) => module === key || module.endsWith(`.${key}`);
  const quantifiers =
    key
      .slice(0, maxLength)
      .replaceAll(/\\.|\[(?:\\.|[^\]])*\]/g, "x")
      .match(/[*+]|\{\d+,\d*\}/g) ?? [];
  const repeatsGroup = /\)(?:[*+]|\{)/.test(key);
  if (key.length > maxLength || quantifiers.length > maxQuantifiers || repeatsGroup) {
    throw new UnsupportedError(`${place}: the expression ${describeJson(key)} is too intricate to be run on names`);
  }
  try {
    const expression = new RegExp(`^(?:.*\\.)?(?:${key})$`);
    return (module) => expression.test(module);
  } catch (cause) {
    const file = place.split(": ")[0]!;
    throw new FormatError(file, `${place}: ${describeJson(key)} is neither a module's name nor a regular expression`, {
      cause,
    });
  }
}
