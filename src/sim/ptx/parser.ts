import type { Entry, Instruction, Operand, PtxModule, Register, Statement, StateSpace, Variable } from "./ast.ts";
import { branchByIndex } from "./branch-index.ts";
import { declaration, Extent } from "./declarations.ts";
import { behindParentheses, findFunctions } from "./functions.ts";
import { label, lookupRegister, operand, primary } from "./operands.ts";
import { Scope } from "./scope.ts";
import { TokenReader } from "./token-reader.ts";
import { ptxType } from "./types.ts";

interface Body {
  readonly registers: Register[];
  readonly statements: Statement[];
  readonly shared: Extent;
  readonly local: Extent;
  /** Variables of shared memory that the module declares, placed when the entry is. */
  readonly moduleShared: readonly Variable[];
}

/** Types of instructions that are not implemented, which is another error than a type that does not exist. */
const rareTypes = new Set(["b128", "u4", "s4", "u2", "s2", "b1"]);

class Parser {
  readonly #name: string;
  readonly #reader: TokenReader;
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
    this.#reader = new TokenReader(text, name);
    this.#functions = findFunctions(this.#reader.tokens);
  }

  parse(): PtxModule {
    while (this.#reader.peek().kind !== "end") this.#topLevel();
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
    const token = this.#reader.next();
    switch (token.text) {
      case ".version":
        this.#version = this.#reader.next().text;
        return;
      case ".target":
        this.#target = this.#reader.next().text;
        while (this.#reader.accept(",")) this.#reader.next();
        return;
      case ".address_size":
        if (this.#reader.next().text !== "64") this.#reader.fail("only 64-bit addresses are supported", token);
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
    this.#reader.fail(`${token.text} is not supported here`, token);
  }

  /** Debugging data, which -lineinfo adds as well. */
  #section(): void {
    while (!this.#reader.accept("{")) {
      if (this.#reader.peek().kind === "end") this.#reader.fail("the text ends inside .section", this.#reader.peek());
      this.#reader.next();
    }
    while (!this.#reader.accept("}")) {
      if (this.#reader.peek().kind === "end") this.#reader.fail("the text ends inside .section", this.#reader.peek());
      this.#reader.next();
    }
  }

  #file(): void {
    const index = Number(this.#reader.next().text);
    this.#files.set(index, this.#reader.next().text.slice(1, -1));
    while (this.#reader.accept(",")) this.#reader.next();
  }

  /** Functions are read where they are called. */
  #skipFunction(): void {
    while (this.#reader.peek().text !== "{" && this.#reader.peek().text !== ";") {
      if (this.#reader.next().kind === "end") return;
    }
    let depth = 0;
    do {
      const { text, kind } = this.#reader.next();
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
    const here = this.#reader.peek();
    const list = (): Operand[] => {
      const operands: Operand[] = [];
      if (!this.#reader.accept("(")) return operands;
      while (!this.#reader.accept(")")) {
        operands.push(primary(this.#reader, scope));
        this.#reader.accept(",");
      }
      return operands;
    };
    const results = list();
    if (results.length > 0) this.#reader.expect(",");
    const { text: name } = this.#reader.next();
    const values = this.#reader.accept(",") ? list() : [];
    this.#reader.expect(";");
    const begin = this.#functions.get(name);
    if (begin === undefined)
      this.#reader.fail(`the module has no body of ${name}, and other functions cannot be called`, here);
    if (this.#calls.includes(name)) this.#reader.fail(`${name} calls itself, which is not supported`, here);

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
    const [returnAt, returnTo] = [this.#reader.at, this.#returnTo];
    const functionScope = new Scope(this.#globals, true);
    const copy = (to: Operand & { kind: "register" }, from: Operand): void => {
      push("mov", [to.register.type], [to, from]);
    };
    this.#reader.at = begin;
    const formalResults = this.#formals(body, functionScope, results);
    this.#reader.next();
    const formalValues = this.#formals(body, functionScope, values);
    formalValues.forEach((to, i) => {
      if (to) copy(to, values[i]!);
    });
    while (!this.#reader.accept("{"))
      if (this.#reader.next().kind === "end") this.#reader.fail(`${name} has no body`, here);
    this.#calls.push(name);
    this.#returnTo = after;
    this.#block(body, functionScope);
    this.#calls.pop();
    [this.#reader.at, this.#returnTo] = [returnAt, returnTo];
    body.statements.push({ label: after });
    formalResults.forEach((from, i) => {
      const to = results[i]!;
      if (from && to.kind === "register") copy(to, from);
    });
    if (guard) body.statements.push({ label: skipped });
  }

  /** Declares a function's parameters: `.param` ones as the variables given, others as registers, which are returned. */
  #formals(body: Body, scope: Scope, given: readonly Operand[]): ((Operand & { kind: "register" }) | undefined)[] {
    if (this.#reader.peek().text !== "(") return [];
    const end = behindParentheses(this.#reader.tokens, this.#reader.at);
    this.#reader.next();
    const formals: ((Operand & { kind: "register" }) | undefined)[] = [];
    while (this.#reader.at < end - 1) {
      const token = this.#reader.next();
      const actual = given[formals.length];
      if (!actual) this.#reader.fail("a call has too few operands", token);
      if (token.text === ".reg") {
        const type = this.#reader.next().text.slice(1);
        const { text: name } = this.#reader.next();
        this.#register(body, scope, name, type);
        formals.push({ kind: "register", register: body.registers.at(-1)! });
      } else {
        const [variable] = declaration(this.#reader, "param", new Extent());
        if (actual.kind !== "symbol") this.#reader.fail("a call needs a variable of .param space here", token);
        scope.add(variable!.name, { variable: actual.variable });
        formals.push(undefined);
      }
      this.#reader.accept(",");
    }
    this.#reader.at = end;
    return formals;
  }

  #entry(): void {
    const { text: name, line } = this.#reader.next();
    const scope = new Scope(this.#globals);
    const parameters: Variable[] = [];
    const extent = new Extent();
    if (this.#reader.accept("(")) {
      while (!this.#reader.accept(")")) {
        this.#reader.expect(".param");
        for (const variable of declaration(this.#reader, "param", extent)) {
          parameters.push(variable);
          scope.add(variable.name, { variable });
        }
        this.#reader.accept(",");
      }
    }
    let maxThreads: number | undefined;
    while (this.#reader.peek().kind === "dotted") {
      const directive = this.#reader.next();
      const numbers: number[] = [];
      while (this.#reader.peek().kind === "integer") {
        numbers.push(Number(this.#reader.next().text));
        this.#reader.accept(",");
      }
      if (directive.text === ".maxntid" || directive.text === ".reqntid")
        maxThreads = numbers.reduce((a, b) => a * b, 1);
    }
    const shared = new Extent();
    shared.bytes = this.#moduleShared.bytes;
    const body: Body = { registers: [], statements: [], shared, local: new Extent(), moduleShared: [] };
    this.#reader.expect("{");
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
      const token = this.#reader.peek();
      if (token.kind === "end") this.#reader.fail("the text ends inside a kernel", token);
      if (this.#reader.accept("}")) return;
      if (this.#reader.accept("{")) this.#block(body, new Scope(scope));
      else if (token.kind === "dotted") this.#directive(body, scope);
      else if (token.kind === "word" && this.#reader.tokens[this.#reader.at + 1]?.text === ":") {
        this.#reader.at += 2;
        const label = scope.declareLabel(token.text);
        if (this.#reader.accept(".branchtargets")) this.#branchTargets.set(label, this.#labelList(scope));
        else body.statements.push({ label });
      } else if (!this.#reader.accept(";")) {
        const instruction = this.#instruction(scope);
        if (instruction.name === "call") this.#call(body, scope, instruction);
        else if (instruction.name === "ret" && this.#returnTo !== undefined) {
          const back = { ...instruction, name: "bra", operands: [{ kind: "label" as const, name: this.#returnTo }] };
          body.statements.push({ instruction: back });
        } else if (instruction.name === "brx") {
          const [index, table] = instruction.operands;
          const targets = table?.kind === "label" ? this.#branchTargets.get(table.name) : undefined;
          if (!index || !targets)
            this.#reader.fail("brx.idx needs an index and a list of .branchtargets above it", token);
          body.statements.push(...branchByIndex(instruction, index, targets, body.registers));
        } else body.statements.push({ instruction });
      }
    }
  }

  #labelList(scope: Scope): Operand[] {
    const labels: Operand[] = [];
    do labels.push(label(this.#reader, scope));
    while (this.#reader.accept(","));
    this.#reader.expect(";");
    return labels;
  }

  #directive(body: Body, scope: Scope): void {
    const token = this.#reader.next();
    const name = token.text.slice(1);
    if (name === "reg") this.#registers(body, scope);
    else if (name === "loc") {
      const [file, line] = [Number(this.#reader.next().text), Number(this.#reader.next().text)];
      this.#reader.next();
      // The rest names the function that was inlined; it ends with the line.
      const here = token.line;
      while (this.#reader.peek().line === here && this.#reader.peek().kind !== "end") this.#reader.next();
      // The compiler says 0 for what it made of several lines: the last one that it named is the best there is.
      this.#source = line === 0 && this.#source ? { ...this.#source, near: true } : { file, line };
    } else if (name === "pragma") {
      while (!this.#reader.accept(";")) this.#reader.next();
    } else if (name === "shared" || name === "local" || name === "param") {
      // What is passed to functions lies in the frame.
      const space = name === "param" ? "local" : name;
      for (const variable of this.#declarations(space, body[space])) scope.add(variable.name, { variable });
    } else this.#reader.fail(`${token.text} is not supported inside a kernel`, token);
  }

  #registers(body: Body, scope: Scope): void {
    const typeToken = this.#reader.next();
    const type = typeToken.text.slice(1);
    if (!ptxType(type)) this.#reader.fail(`registers of type ${typeToken.text} are not supported`, typeToken);
    do {
      const name = this.#reader.next().text;
      if (this.#reader.accept("<")) {
        const count = Number(this.#reader.next().text);
        this.#reader.expect(">");
        for (let i = 0; i < count; i++) this.#register(body, scope, `${name}${i}`, type);
      } else this.#register(body, scope, name, type);
    } while (this.#reader.accept(","));
    this.#reader.expect(";");
  }

  #register(body: Body, scope: Scope, name: string, type: string): void {
    const register = { name, type, index: body.registers.length };
    body.registers.push(register);
    scope.add(name, { register });
  }

  #declarations(space: StateSpace, extent: Extent): Variable[] {
    const variables = declaration(this.#reader, space, extent);
    this.#reader.expect(";");
    return variables;
  }

  #instruction(scope: Scope): Instruction {
    const first = this.#reader.peek();
    let guard: Instruction["guard"];
    if (this.#reader.accept("@")) {
      const negated = this.#reader.accept("!");
      guard = { register: lookupRegister(this.#reader, this.#reader.next(), scope), negated };
    }
    const opcode = this.#reader.next();
    if (opcode.kind !== "word")
      this.#reader.fail(`expected an instruction, found ${JSON.stringify(opcode.text)}`, opcode);
    const modifiers: string[] = [];
    while (this.#reader.peek().kind === "dotted") {
      const token = this.#reader.next();
      const modifier = token.text.slice(1);
      if (/^[busf]\d+$/.test(modifier) && !ptxType(modifier) && !rareTypes.has(modifier)) {
        this.#reader.fail(`there is no type ${token.text}`, token);
      }
      modifiers.push(modifier);
    }
    const operands: Operand[] = [];
    const text = [opcode.text, ...modifiers].join(".");
    if (opcode.text !== "call" && !this.#reader.accept(";")) {
      const isLabel = () => opcode.text === "bra" || (opcode.text === "brx" && operands.length === 1);
      do operands.push(isLabel() ? label(this.#reader, scope) : operand(this.#reader, scope));
      while (this.#reader.accept(","));
      this.#reader.expect(";");
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
}

/** Reads PTX text. `name` appears in errors. Throws PtxError. */
export function parsePtx(text: string, name: string): PtxModule {
  return new Parser(text, name).parse();
}
