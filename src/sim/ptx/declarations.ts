import type { StateSpace, Variable } from "./ast.ts";
import { floatBits, integerValue } from "./literals.ts";
import type { TokenReader } from "./token-reader.ts";
import { ptxType } from "./types.ts";

const spaces = new Set(["param", "shared", "global", "const", "local"]);

/** Where the next variable of a state space lies. */
export class Extent {
  bytes = 0;

  place(bytes: number, align: number): number {
    const offset = Math.ceil(this.bytes / align) * align;
    this.bytes = offset + bytes;
    return offset;
  }
}

/** `.align 16 .b8 name[32]`, without what introduces and what ends it. */
export function declaration(reader: TokenReader, space: StateSpace, extent: Extent): Variable[] {
  let align = 0;
  let elementBytes = 0;
  while (reader.peek().kind === "dotted") {
    const token = reader.next();
    if (token.text === ".align") align = Number(reader.next().text);
    else if (token.text === ".ptr" || spaces.has(token.text.slice(1))) continue;
    else if (/^\.v[248]$/.test(token.text)) elementBytes = -Number(token.text.slice(2));
    else {
      const type = ptxType(token.text.slice(1));
      if (!type) reader.fail(`type ${token.text} is not supported`, token);
      elementBytes = type.bytes * (elementBytes < 0 ? -elementBytes : 1);
    }
  }
  const variables: Variable[] = [];
  do {
    const name = reader.next().text;
    let count = 1;
    while (reader.accept("[")) {
      count *= reader.peek().text === "]" ? 0 : Number(integerValue(reader.next().text));
      reader.expect("]");
    }
    const initial = reader.accept("=") ? initializer(reader, elementBytes) : undefined;
    const bytes = count * elementBytes;
    const offset = extent.place(bytes, Math.max(align, elementBytes));
    variables.push({ name, space, align: Math.max(align, elementBytes), bytes, initial, offset });
    if (space === "param") break;
  } while (reader.accept(","));
  return variables;
}

function initializer(reader: TokenReader, elementBytes: number): Uint8Array {
  const bytes: number[] = [];
  const value = (): void => {
    if (reader.accept("{")) {
      while (!reader.accept("}")) {
        value();
        reader.accept(",");
      }
      return;
    }
    const negative = reader.accept("-");
    const token = reader.next();
    if (token.kind !== "integer" && token.kind !== "float") reader.fail("an initial value must be a number", token);
    let bits = token.kind === "integer" ? integerValue(token.text) : floatBits(token.text).bits;
    if (negative) bits = -bits;
    for (let i = 0; i < elementBytes; i++) bytes.push(Number((bits >> BigInt(8 * i)) & 255n));
  };
  value();
  return Uint8Array.from(bytes);
}
