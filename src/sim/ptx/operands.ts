import type { Operand, Register } from "./ast.ts";
import type { Token } from "./lexer.ts";
import { floatBits, integerValue } from "./literals.ts";
import type { Scope } from "./scope.ts";
import type { TokenReader } from "./token-reader.ts";

const specialRegisters =
  /^%(n?tid|n?ctaid|laneid|n?warpid|n?smid|gridid|lanemask_(eq|le|lt|ge|gt)|clock(_hi|64)?|globaltimer(_lo|_hi)?|pm\d+|envreg\d+|\w*cluster\w*|\w+_smem\w*|current_graph_exec)$/;

export function label(reader: TokenReader, scope: Scope): Operand {
  return { kind: "label", name: scope.labelName(reader.next().text) };
}

export function operand(reader: TokenReader, scope: Scope): Operand {
  const first = primary(reader, scope);
  if (!reader.accept("|")) return first;
  return { kind: "pair", first, second: primary(reader, scope) };
}

export function primary(reader: TokenReader, scope: Scope): Operand {
  const token = reader.next();
  if (token.text === "{") {
    const items: Operand[] = [];
    while (!reader.accept("}")) {
      items.push(primary(reader, scope));
      reader.accept(",");
    }
    return { kind: "vector", items };
  }
  if (token.text === "[") return address(reader, scope);
  if (token.text === "_") return { kind: "sink" };
  if (token.text === "!")
    return { kind: "register", register: lookupRegister(reader, reader.next(), scope), negated: true };
  if (token.text === "-") {
    const number = reader.next();
    if (number.kind === "integer") return { kind: "integer", value: -integerValue(number.text) };
    const { bits, width } = floatBits(number.text);
    return { kind: "float", bits: bits ^ (1n << BigInt(width - 1)), width };
  }
  if (token.kind === "integer") return { kind: "integer", value: integerValue(token.text) };
  if (token.kind === "float") return { kind: "float", ...floatBits(token.text) };
  if (token.kind !== "word") reader.fail(`expected an operand, found ${JSON.stringify(token.text)}`, token);
  if (token.text === "WARP_SZ") return { kind: "integer", value: 32n };
  const found = scope.find(token.text);
  if (found && "register" in found) return { kind: "register", register: found.register };
  if (found) return { kind: "symbol", variable: found.variable, offset: offsetOf(reader) };
  if (specialRegisters.test(token.text)) {
    const part = reader.peek().kind === "dotted" ? reader.next().text : "";
    return { kind: "special", name: token.text + part };
  }
  return reader.fail(`${token.text} is not declared`, token);
}

function address(reader: TokenReader, scope: Scope): Operand {
  const token = reader.next();
  let base: Extract<Operand, { kind: "address" }>["base"];
  let offset = 0;
  if (token.kind === "integer") offset = Number(integerValue(token.text));
  else {
    const found = scope.find(token.text);
    if (!found) reader.fail(`${token.text} is not declared`, token);
    base = found;
    offset = offsetOf(reader);
  }
  reader.expect("]");
  return { kind: "address", base, offset };
}

/** `+8`, `+-8`, `-8` or nothing. */
function offsetOf(reader: TokenReader): number {
  const plus = reader.accept("+");
  const minus = reader.accept("-");
  if (!plus && !minus) return 0;
  const value = Number(integerValue(reader.next().text));
  return minus ? -value : value;
}

export function lookupRegister(reader: TokenReader, token: Token, scope: Scope): Register {
  const found = scope.find(token.text);
  if (!found || !("register" in found)) reader.fail(`${token.text} is not a register`, token);
  return found.register;
}
