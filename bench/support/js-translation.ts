import { cutFragments, type Ending } from "../../src/sim/compile/fragments.ts";
import type { Instruction, Operand } from "../../src/sim/ptx/ast.ts";
import { parsePtx } from "../../src/sim/ptx/parser.ts";

/** Runs all threads of a grid one after another; addresses are byte offsets into `memory`. */
export type TranslatedKernel = (
  memory: ArrayBuffer,
  blocks: number,
  threads: number,
  parameters: { readonly out: number; readonly x: number; readonly steps: number },
) => void;

/**
 * The other way to execute PTX: its fragments as cases of a switch in one JavaScript function, registers as variables. It
 * knows the few instructions of the benchmark's kernels, and is kinder to JavaScript than a whole device could be: addresses are
 * plain numbers instead of BigInts, and nothing is checked.
 */
export function translateToJavaScript(ptx: string): TranslatedKernel {
  const module = parsePtx(ptx, "bench");
  const [entry] = module.entries;
  if (!entry) throw new Error("no kernel");
  const fragments = cutFragments(entry, module.name);
  const registers = entry.registers.map(({ name }) => `let ${variable(name)} = 0;`).join(" ");
  const cases = fragments.map(({ instructions, ending }, f) => {
    const body = instructions.map(statement).join("\n");
    return `case ${f}:\n${body}\n${jump(ending)}`;
  });
  const source = `
const i32 = new Int32Array(memory), f32 = new Float32Array(memory);
const { out, x, steps } = parameters;
const fround = Math.fround;
for (let ctaid = 0; ctaid < blocks; ctaid++) for (let tid = 0; tid < threads; tid++) {
${registers}
let at = 0;
lane: for (;;) switch (at) {
${cases.join("\n")}
}
}`;
  const run = new Function("memory", "blocks", "threads", "parameters", "fma", source);
  return (memory, blocks, threads, parameters) => run(memory, blocks, threads, parameters, fma);
}

const wide = new Float64Array(1);
const bits = new BigInt64Array(wide.buffer);

/** a*b + c of floats, rounded once: exact in double but for the sum, which is rounded to odd where that matters. */
function fma(a: number, b: number, c: number): number {
  const product = a * b;
  const sum = product + c;
  const rounded = Math.fround(sum);
  if (rounded === sum || sum + sum - rounded !== Math.fround(sum + sum - rounded)) return rounded;
  const part = sum - product;
  const error = product - (sum - part) + (c - part);
  if (error === 0) return rounded;
  wide[0] = sum;
  bits[0] = bits[0]! + (error > 0 === sum > 0 ? 1n : -1n);
  return Math.fround(wide[0]!);
}

function variable(name: string): string {
  return name.replace("%", "r_").replaceAll(".", "_");
}

function value(operand: Operand | undefined): string {
  switch (operand?.kind) {
    case "register":
      return variable(operand.register.name);
    case "integer":
      return String(operand.value);
    case "float": {
      const view = new DataView(new ArrayBuffer(4));
      view.setUint32(0, Number(operand.bits));
      return String(view.getFloat32(0));
    }
    case "special":
      return { "%tid.x": "tid", "%ctaid.x": "ctaid", "%ntid.x": "threads" }[operand.name] ?? "0";
    case "address": {
      const { base, offset } = operand;
      if (base && "variable" in base) return base.variable.name;
      return base ? `${variable(base.register.name)} + ${offset}` : String(offset);
    }
    default:
      throw new Error(`operand ${operand?.kind}`);
  }
}

function statement(instruction: Instruction): string {
  const { text, operands } = instruction;
  const [a, b, c, d] = operands;
  const to = text.startsWith("st.") ? "" : value(a);
  const templates: Record<string, () => string> = {
    "ld.param.u64": () => `${to} = ${value(b)};`,
    "ld.param.u32": () => `${to} = ${value(b)};`,
    "mov.u32": () => `${to} = ${value(b)};`,
    "mov.f32": () => `${to} = ${value(b)};`,
    "mad.lo.u32": () => `${to} = (Math.imul(${value(b)}, ${value(c)}) + ${value(d)}) | 0;`,
    "mad.wide.u32": () => `${to} = (${value(b)} >>> 0) * ${value(c)} + ${value(d)};`,
    "add.u32": () => `${to} = (${value(b)} + ${value(c)}) | 0;`,
    "add.s64": () => `${to} = ${value(b)} + ${value(c)};`,
    "shr.u32": () => `${to} = ${value(b)} >>> ${value(c)};`,
    "shl.b32": () => `${to} = ${value(b)} << ${value(c)};`,
    "xor.b32": () => `${to} = ${value(b)} ^ ${value(c)};`,
    "setp.lt.u32": () => `${to} = (${value(b)} >>> 0) < (${value(c)} >>> 0) ? 1 : 0;`,
    "mul.f32": () => `${to} = fround(${value(b)} * ${value(c)});`,
    "fma.rn.f32": () => `${to} = fma(${value(b)}, ${value(c)}, ${value(d)});`,
    "ld.global.f32": () => `${to} = f32[(${value(b)}) >>> 2];`,
    "ld.global.u32": () => `${to} = i32[(${value(b)}) >>> 2];`,
    "st.global.f32": () => `f32[(${value(a)}) >>> 2] = ${value(b)};`,
    "st.global.u32": () => `i32[(${value(a)}) >>> 2] = ${value(b)};`,
  };
  const template = templates[text];
  if (!template) throw new Error(`the translation to JavaScript does not know ${text}`);
  return template();
}

function jump(ending: Ending): string {
  switch (ending.kind) {
    case "goto":
      return `at = ${ending.target}; continue lane;`;
    case "branch": {
      const { taken, next, negated, predicate } = ending;
      return `at = ${negated ? "!" : ""}${variable(predicate.name)} ? ${taken} : ${next}; continue lane;`;
    }
    case "exit":
      return "break lane;";
    default:
      throw new Error("the translation to JavaScript knows no collective instructions");
  }
}
