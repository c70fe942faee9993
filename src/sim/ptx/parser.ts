import type { Entry, Instruction, Operand, PtxModule, Register, Statement, StateSpace, Variable } from "./ast.ts";
import { branchByIndex } from "./branch-index.ts";
import { PtxError } from "./error.ts";
import { behindParentheses, findFunctions } from "./functions.ts";
import { type Token, tokenize } from "./lexer.ts";
import { floatBits, integerValue } from "./literals.ts";
import { Scope } from "./scope.ts";
import { ptxType } from "./types.ts";

/** Where the next variable of a state space lies. */
class Extent {
  bytes = 0;

  place(bytes: number, align: number): number {
    const offset = Math.ceil(this.bytes / align) * align;
    this.bytes = offset + bytes;
    return offset;
  }
}

interface Body {
  readonly registers: Register[];
  readonly statements: Statement[];
  readonly shared: Extent;
  readonly local: Extent;
  /** Variables of shared memory that the module declares, placed when the entry is. */
  readonly moduleShared: readonly Variable[];
}

const specialRegisters =
  /^%(n?tid|n?ctaid|laneid|n?warpid|n?smid|gridid|lanemask_(eq|le|lt|ge|gt)|clock(_hi|64)?|globaltimer(_lo|_hi)?|pm\d+|envreg\d+|\w*cluster\w*|\w+_smem\w*|current_graph_exec)$/;
/** Types of instructions that are not implemented, which is another error than a type that does not exist. */
const rareTypes = new Set(["b128", "u4", "s4", "u2", "s2", "b1"]);
const spaces = new Set(["param", "shared", "global", "const", "local"]);

class Parser {
  readonly #name: string;
  readonly #tokens: readonly Token[];
  #at = 0;
  #source: Instruction["source"];
  readonly #globals = new Scope(undefined);
  readonly #globalExtent = new Extent();
  readonly #moduleShared = new Extent();
  readonly #files = new Map<number, string>();
  readonly #variables: Variable[] = [];
  readonly #entries: Entry[] = [];
  /** What `.branchtargets` lists, by the label in front of it. */
  readonly #branchTargets = new Map<string, readonly Operand[]>();
  readonly #functions: ReadonlyMap<string, number>;
  /** Functions whose bodies are being read, from the outermost call. */
  readonly #calls: string[] = [];
  /** Where `ret` goes inside of a function. */
  #returnTo: string | undefined;
  #version = "";
  #target = "";

  constructor(text: string, name: string) {
    this.#name = name;
    this.#tokens = tokenize(text, name);
    this.#functions = findFunctions(this.#tokens);
  }

  parse(): PtxModule {
    while (this.#peek().kind !== "end") this.#topLevel();
    return {
      name: this.#name,
      version: this.#version,
      target: this.#target,
      files: this.#files,
      variables: this.#variables,
      globalBytes: this.#globalExtent.bytes,
      entries: this.#entries,
    };
  }

  #topLevel(): void {
    const token = this.#next();
    switch (token.text) {
      case ".version":
        this.#version = this.#next().text;
        return;
      case ".target":
        this.#target = this.#next().text;
        while (this.#accept(",")) this.#next();
        return;
      case ".address_size":
        if (this.#next().text !== "64") this.#fail("only 64-bit addresses are supported", token);
        return;
      case ".file":
        this.#file();
        return;
      case ".section":
        this.#section();
        return;
      case ".visible":
      case ".extern":
      case ".weak":
      case ".common":
        return;
      case ".entry":
        this.#entry();
        return;
      case ".func":
        this.#skipFunction();
        return;
      case ";":
        return;
    }
    const space = token.text.slice(1);
    if (token.kind === "dotted" && (space === "global" || space === "const" || space === "shared")) {
      const extent = space === "shared" ? this.#moduleShared : this.#globalExtent;
      for (const variable of this.#declarations(space, extent)) {
        this.#globals.add(variable.name, { variable });
        if (space !== "shared") this.#variables.push(variable);
      }
      return;
    }
    this.#fail(`${token.text} is not supported here`, token);
  }

  /** Debugging data, which -lineinfo adds as well. */
  #section(): void {
    while (!this.#accept("{")) {
      if (this.#peek().kind === "end") this.#fail("the text ends inside .section", this.#peek());
      this.#next();
    }
    while (!this.#accept("}")) {
      if (this.#peek().kind === "end") this.#fail("the text ends inside .section", this.#peek());
      this.#next();
    }
  }

  #file(): void {
    const index = Number(this.#next().text);
    this.#files.set(index, this.#next().text.slice(1, -1));
    while (this.#accept(",")) this.#next();
  }

  /** Functions are read where they are called. */
  #skipFunction(): void {
    while (this.#peek().text !== "{" && this.#peek().text !== ";") {
      if (this.#next().kind === "end") return;
    }
    let depth = 0;
    do {
      const { text, kind } = this.#next();
      if (text === "{") depth++;
      else if (text === "}") depth--;
      if (kind === "end") return;
    } while (depth > 0);
  }

  /**
   * A call, behind its name: the function's body takes its place. Parameters in `.param` space are the caller's own
   * variables by another name; those in registers are copied.
   */
  #call(body: Body, scope: Scope, { guard, ...instruction }: Instruction): void {
    const here = this.#peek();
    const list = (): Operand[] => {
      const operands: Operand[] = [];
      if (!this.#accept("(")) return operands;
      while (!this.#accept(")")) {
        operands.push(this.#primary(scope));
        this.#accept(",");
      }
      return operands;
    };
    const results = list();
    if (results.length > 0) this.#expect(",");
    const { text: name } = this.#next();
    const values = this.#accept(",") ? list() : [];
    this.#expect(";");
    const begin = this.#functions.get(name);
    if (begin === undefined)
      this.#fail(`the module has no body of ${name}, and other functions cannot be called`, here);
    if (this.#calls.includes(name)) this.#fail(`${name} calls itself, which is not supported`, here);

    const after = `return@${body.statements.length}`;
    const push = (
      name: string,
      modifiers: string[],
      operands: Operand[],
      of: Instruction["guard"] = undefined,
    ): void => {
      body.statements.push({ instruction: { ...instruction, name, modifiers, operands, guard: of } });
    };
    const skipped = `skip@${body.statements.length}`;
    if (guard) push("bra", [], [{ kind: "label", name: skipped }], { ...guard, negated: !guard.negated });
    const [returnAt, returnTo] = [this.#at, this.#returnTo];
    const functionScope = new Scope(this.#globals, true);
    const copy = (to: Operand & { kind: "register" }, from: Operand): void => {
      push("mov", [to.register.type], [to, from]);
    };
    this.#at = begin;
    const formalResults = this.#formals(body, functionScope, results);
    this.#next();
    const formalValues = this.#formals(body, functionScope, values);
    formalValues.forEach((to, i) => {
      if (to) copy(to, values[i]!);
    });
    while (!this.#accept("{")) if (this.#next().kind === "end") this.#fail(`${name} has no body`, here);
    this.#calls.push(name);
    this.#returnTo = after;
    this.#block(body, functionScope);
    this.#calls.pop();
    [this.#at, this.#returnTo] = [returnAt, returnTo];
    body.statements.push({ label: after });
    formalResults.forEach((from, i) => {
      const to = results[i]!;
      if (from && to.kind === "register") copy(to, from);
    });
    if (guard) body.statements.push({ label: skipped });
  }

  /** Declares a function's parameters: `.param` ones as the variables given, others as registers, which are returned. */
  #formals(body: Body, scope: Scope, given: readonly Operand[]): ((Operand & { kind: "register" }) | undefined)[] {
    if (this.#peek().text !== "(") return [];
    const end = behindParentheses(this.#tokens, this.#at);
    this.#next();
    const formals: ((Operand & { kind: "register" }) | undefined)[] = [];
    while (this.#at < end - 1) {
      const token = this.#next();
      const actual = given[formals.length];
      if (!actual) this.#fail("a call has too few operands", token);
      if (token.text === ".reg") {
        const type = this.#next().text.slice(1);
        const { text: name } = this.#next();
        this.#register(body, scope, name, type);
        formals.push({ kind: "register", register: body.registers.at(-1)! });
      } else {
        const [variable] = this.#declaration("param", new Extent());
        if (actual.kind !== "symbol") this.#fail("a call needs a variable of .param space here", token);
        scope.add(variable!.name, { variable: actual.variable });
        formals.push(undefined);
      }
      this.#accept(",");
    }
    this.#at = end;
    return formals;
  }

  #entry(): void {
    const { text: name, line } = this.#next();
    const scope = new Scope(this.#globals);
    const parameters: Variable[] = [];
    const extent = new Extent();
    if (this.#accept("(")) {
      while (!this.#accept(")")) {
        this.#expect(".param");
        for (const variable of this.#declaration("param", extent)) {
          parameters.push(variable);
          scope.add(variable.name, { variable });
        }
        this.#accept(",");
      }
    }
    let maxThreads: number | undefined;
    while (this.#peek().kind === "dotted") {
      const directive = this.#next();
      const numbers: number[] = [];
      while (this.#peek().kind === "integer") {
        numbers.push(Number(this.#next().text));
        this.#accept(",");
      }
      if (directive.text === ".maxntid" || directive.text === ".reqntid")
        maxThreads = numbers.reduce((a, b) => a * b, 1);
    }
    const shared = new Extent();
    shared.bytes = this.#moduleShared.bytes;
    const body: Body = { registers: [], statements: [], shared, local: new Extent(), moduleShared: [] };
    this.#expect("{");
    this.#block(body, scope);
    this.#entries.push({
      name,
      line,
      parameters,
      parameterBytes: extent.bytes,
      registers: body.registers,
      sharedBytes: shared.bytes,
      localBytes: body.local.bytes,
      maxThreads,
      body: body.statements,
    });
  }

  /** The statements of a scope, up to its closing brace. */
  #block(body: Body, scope: Scope): void {
    for (;;) {
      const token = this.#peek();
      if (token.kind === "end") this.#fail("the text ends inside a kernel", token);
      if (this.#accept("}")) return;
      if (this.#accept("{")) this.#block(body, new Scope(scope));
      else if (token.kind === "dotted") this.#directive(body, scope);
      else if (token.kind === "word" && this.#tokens[this.#at + 1]?.text === ":") {
        this.#at += 2;
        const label = scope.declareLabel(token.text);
        if (this.#accept(".branchtargets")) this.#branchTargets.set(label, this.#labelList(scope));
        else body.statements.push({ label });
      } else if (!this.#accept(";")) {
        const instruction = this.#instruction(scope);
        if (instruction.name === "call") this.#call(body, scope, instruction);
        else if (instruction.name === "ret" && this.#returnTo !== undefined) {
          const back = { ...instruction, name: "bra", operands: [{ kind: "label" as const, name: this.#returnTo }] };
          body.statements.push({ instruction: back });
        } else if (instruction.name === "brx") {
          const [index, table] = instruction.operands;
          const targets = table?.kind === "label" ? this.#branchTargets.get(table.name) : undefined;
          if (!index || !targets) this.#fail("brx.idx needs an index and a list of .branchtargets above it", token);
          body.statements.push(...branchByIndex(instruction, index, targets, body.registers));
        } else body.statements.push({ instruction });
      }
    }
  }

  #labelList(scope: Scope): Operand[] {
    const labels: Operand[] = [];
    do labels.push(this.#label(scope));
    while (this.#accept(","));
    this.#expect(";");
    return labels;
  }

  #directive(body: Body, scope: Scope): void {
    const token = this.#next();
    const name = token.text.slice(1);
    if (name === "reg") this.#registers(body, scope);
    else if (name === "loc") {
      const [file, line] = [Number(this.#next().text), Number(this.#next().text)];
      this.#next();
      // The rest names the function that was inlined; it ends with the line.
      const here = token.line;
      while (this.#peek().line === here && this.#peek().kind !== "end") this.#next();
      // The compiler says 0 for what it made of several lines: the last one that it named is the best there is.
      this.#source = line === 0 && this.#source ? { ...this.#source, near: true } : { file, line };
    } else if (name === "pragma") {
      while (!this.#accept(";")) this.#next();
    } else if (name === "shared" || name === "local" || name === "param") {
      // What is passed to functions lies in the frame.
      const space = name === "param" ? "local" : name;
      for (const variable of this.#declarations(space, body[space])) scope.add(variable.name, { variable });
    } else this.#fail(`${token.text} is not supported inside a kernel`, token);
  }

  #registers(body: Body, scope: Scope): void {
    const typeToken = this.#next();
    const type = typeToken.text.slice(1);
    if (!ptxType(type)) this.#fail(`registers of type ${typeToken.text} are not supported`, typeToken);
    do {
      const name = this.#next().text;
      if (this.#accept("<")) {
        const count = Number(this.#next().text);
        this.#expect(">");
        for (let i = 0; i < count; i++) this.#register(body, scope, `${name}${i}`, type);
      } else this.#register(body, scope, name, type);
    } while (this.#accept(","));
    this.#expect(";");
  }

  #register(body: Body, scope: Scope, name: string, type: string): void {
    const register = { name, type, index: body.registers.length };
    body.registers.push(register);
    scope.add(name, { register });
  }

  #declarations(space: StateSpace, extent: Extent): Variable[] {
    const variables = this.#declaration(space, extent);
    this.#expect(";");
    return variables;
  }

  /** `.align 16 .b8 name[32]`, without what introduces and what ends it. */
  #declaration(space: StateSpace, extent: Extent): Variable[] {
    let align = 0;
    let elementBytes = 0;
    while (this.#peek().kind === "dotted") {
      const token = this.#next();
      if (token.text === ".align") align = Number(this.#next().text);
      else if (token.text === ".ptr" || spaces.has(token.text.slice(1))) continue;
      else if (/^\.v[248]$/.test(token.text)) elementBytes = -Number(token.text.slice(2));
      else {
        const type = ptxType(token.text.slice(1));
        if (!type) this.#fail(`type ${token.text} is not supported`, token);
        elementBytes = type.bytes * (elementBytes < 0 ? -elementBytes : 1);
      }
    }
    const variables: Variable[] = [];
    do {
      const name = this.#next().text;
      let count = 1;
      while (this.#accept("[")) {
        count *= this.#peek().text === "]" ? 0 : Number(integerValue(this.#next().text));
        this.#expect("]");
      }
      const initial = this.#accept("=") ? this.#initializer(elementBytes) : undefined;
      const bytes = count * elementBytes;
      const offset = extent.place(bytes, Math.max(align, elementBytes));
      variables.push({ name, space, align: Math.max(align, elementBytes), bytes, initial, offset });
      if (space === "param") break;
    } while (this.#accept(","));
    return variables;
  }

  #initializer(elementBytes: number): Uint8Array {
    const bytes: number[] = [];
    const value = (): void => {
      if (this.#accept("{")) {
        while (!this.#accept("}")) {
          value();
          this.#accept(",");
        }
        return;
      }
      const negative = this.#accept("-");
      const token = this.#next();
      if (token.kind !== "integer" && token.kind !== "float") this.#fail("an initial value must be a number", token);
      let bits = token.kind === "integer" ? integerValue(token.text) : floatBits(token.text).bits;
      if (negative) bits = -bits;
      for (let i = 0; i < elementBytes; i++) bytes.push(Number((bits >> BigInt(8 * i)) & 255n));
    };
    value();
    return Uint8Array.from(bytes);
  }

  #instruction(scope: Scope): Instruction {
    const first = this.#peek();
    let guard: Instruction["guard"];
    if (this.#accept("@")) {
      const negated = this.#accept("!");
      guard = { register: this.#lookupRegister(this.#next(), scope), negated };
    }
    const opcode = this.#next();
    if (opcode.kind !== "word") this.#fail(`expected an instruction, found ${JSON.stringify(opcode.text)}`, opcode);
    const modifiers: string[] = [];
    while (this.#peek().kind === "dotted") {
      const token = this.#next();
      const modifier = token.text.slice(1);
      if (/^[busf]\d+$/.test(modifier) && !ptxType(modifier) && !rareTypes.has(modifier)) {
        this.#fail(`there is no type ${token.text}`, token);
      }
      modifiers.push(modifier);
    }
    const operands: Operand[] = [];
    const text = [opcode.text, ...modifiers].join(".");
    if (opcode.text !== "call" && !this.#accept(";")) {
      const isLabel = () => opcode.text === "bra" || (opcode.text === "brx" && operands.length === 1);
      do operands.push(isLabel() ? this.#label(scope) : this.#operand(scope));
      while (this.#accept(","));
      this.#expect(";");
    }
    // Parameters of functions lie in the frame: see #directive.
    const isPassed = operands.some(
      (operand) =>
        operand.kind === "address" &&
        operand.base &&
        "variable" in operand.base &&
        operand.base.variable.space === "local",
    );
    if (isPassed)
      modifiers.forEach((m, i) => {
        if (m.split("::", 1)[0] === "param") modifiers[i] = "local";
      });
    return { text, name: opcode.text, modifiers, guard, operands, line: first.line, source: this.#source };
  }

  #label(scope: Scope): Operand {
    return { kind: "label", name: scope.labelName(this.#next().text) };
  }

  #operand(scope: Scope): Operand {
    const first = this.#primary(scope);
    if (!this.#accept("|")) return first;
    return { kind: "pair", first, second: this.#primary(scope) };
  }

  #primary(scope: Scope): Operand {
    const token = this.#next();
    if (token.text === "{") {
      const items: Operand[] = [];
      while (!this.#accept("}")) {
        items.push(this.#primary(scope));
        this.#accept(",");
      }
      return { kind: "vector", items };
    }
    if (token.text === "[") return this.#address(scope);
    if (token.text === "_") return { kind: "sink" };
    if (token.text === "!")
      return { kind: "register", register: this.#lookupRegister(this.#next(), scope), negated: true };
    if (token.text === "-") {
      const number = this.#next();
      if (number.kind === "integer") return { kind: "integer", value: -integerValue(number.text) };
      const { bits, width } = floatBits(number.text);
      return { kind: "float", bits: bits ^ (1n << BigInt(width - 1)), width };
    }
    if (token.kind === "integer") return { kind: "integer", value: integerValue(token.text) };
    if (token.kind === "float") return { kind: "float", ...floatBits(token.text) };
    if (token.kind !== "word") this.#fail(`expected an operand, found ${JSON.stringify(token.text)}`, token);
    if (token.text === "WARP_SZ") return { kind: "integer", value: 32n };
    const found = scope.find(token.text);
    if (found && "register" in found) return { kind: "register", register: found.register };
    if (found) return { kind: "symbol", variable: found.variable, offset: this.#offset() };
    if (specialRegisters.test(token.text)) {
      const part = this.#peek().kind === "dotted" ? this.#next().text : "";
      return { kind: "special", name: token.text + part };
    }
    return this.#fail(`${token.text} is not declared`, token);
  }

  #address(scope: Scope): Operand {
    const token = this.#next();
    let base: Extract<Operand, { kind: "address" }>["base"];
    let offset = 0;
    if (token.kind === "integer") offset = Number(integerValue(token.text));
    else {
      const found = scope.find(token.text);
      if (!found) this.#fail(`${token.text} is not declared`, token);
      base = found;
      offset = this.#offset();
    }
    this.#expect("]");
    return { kind: "address", base, offset };
  }

  /** `+8`, `+-8`, `-8` or nothing. */
  #offset(): number {
    const plus = this.#accept("+");
    const minus = this.#accept("-");
    if (!plus && !minus) return 0;
    const value = Number(integerValue(this.#next().text));
    return minus ? -value : value;
  }

  #lookupRegister(token: Token, scope: Scope): Register {
    const found = scope.find(token.text);
    if (!found || !("register" in found)) this.#fail(`${token.text} is not a register`, token);
    return found.register;
  }

  #peek(): Token {
    return this.#tokens[this.#at]!;
  }

  #next(): Token {
    const token = this.#tokens[this.#at]!;
    if (token.kind !== "end") this.#at++;
    return token;
  }

  #accept(text: string): boolean {
    if (this.#peek().text !== text) return false;
    this.#at++;
    return true;
  }

  #expect(text: string): void {
    const token = this.#next();
    if (token.text !== text) this.#fail(`expected "${text}", found ${JSON.stringify(token.text)}`, token);
  }

  #fail(detail: string, token: Token): never {
    throw new PtxError(this.#name, token.line, detail);
  }
}

/** Reads PTX text. `name` appears in errors. Throws PtxError. */
export function parsePtx(text: string, name: string): PtxModule {
  return new Parser(text, name).parse();
}
