import { bf16ToNumber, f16ToNumber } from "../../base/float.ts";
import { formatInstruction } from "../../sim/ptx/format.ts";
import { bitsToFloat } from "../../sim/ptx/literals.ts";
import { type RegisterValue, sourceOf, type TracedAccess, type TraceStep } from "../../sim/trace/trace-step.ts";
import type { KernelTrace } from "../../sim/trace/tracer.ts";
import { bold, dim } from "../terminal.ts";
import type { SourceText } from "./source-text.ts";

/** A trace as text: each line of the source once, then its instructions with what they read, left and accessed. */
export function formatTrace(trace: KernelTrace, title: string, text: SourceText, skipped: number): string {
  const { steps, count } = trace;
  const lines = [bold(`${trace.kernel}, ${title}: ${count} instructions`)];
  if (skipped > 0) lines.push(`… ${Math.min(skipped, count)} before`);
  const instructions = steps.map(({ instruction }) => formatInstruction(instruction));
  const width = Math.min(48, Math.max(0, ...instructions.map((line) => line.length)));
  let last = "";
  steps.forEach((step, i) => {
    const source = sourceOf(step.instruction, trace.module);
    const at = source ? `${source.file}:${source.line}` : "";
    if (source && at !== last) lines.push(dim(`${at}  ${text.line(source.file, source.line) ?? ""}`.trimEnd()));
    last = at;
    const place = String(step.instruction.line).padStart(6);
    lines.push(`${place}  ${instructions[i]!.padEnd(width)}  ${formatEffects(step)}`.trimEnd());
  });
  const rest = count - skipped - steps.length;
  if (rest > 0) lines.push(`… ${rest} more; --trace-limit and --trace-skip show them`);
  return `${lines.join("\n")}\n`;
}

function formatEffects(step: TraceStep): string {
  const { instruction, operands, results, accesses, executed } = step;
  const style = floatStyle(step);
  const value = (v: RegisterValue) => `${v.register} = ${formatValue(v, style)}`;
  const parts = [operands.map(value).join(", ")];
  if (results.length > 0) parts.push(`→ ${results.map(value).join(", ")}`);
  if (!executed) parts.push("(not executed)");
  if (instruction.name === "bra" && instruction.guard) parts.push(isTaken(step) ? "(taken)" : "(not taken)");
  for (const access of accesses) parts.push(`[${formatAccess(access)}]`);
  return parts.filter((part) => part !== "").join(" ");
}

function isTaken({ instruction, operands }: TraceStep): boolean {
  return (operands.at(-1)!.bits !== 0n) !== instruction.guard!.negated;
}

function formatAccess({ kind, space, address, bytes }: TracedAccess): string {
  const at = space === "global" ? `0x${address.toString(16)}` : `${space} ${address}`;
  return `${kind} ${bytes} bytes at ${at}`;
}

/** What an instruction takes the bits of a 16- or 32-bit register for. */
function floatStyle({ instruction }: TraceStep): "f16" | "bf16" | "bits" {
  const types = instruction.modifiers.filter((m) => /^b?f16(x2)?$/.test(m));
  if (types.length === 0) return "bits";
  return types[0]!.startsWith("b") ? "bf16" : "f16";
}

export function formatValue({ type, bits }: RegisterValue, style: "f16" | "bf16" | "bits" = "bits"): string {
  if (type === "pred") return bits === 0n ? "false" : "true";
  if (type === "f32") return shortFloat(bitsToFloat(bits, 32));
  if (type === "f64") return String(bitsToFloat(bits, 64));
  const width = Number(/\d+$/.exec(type)![0]);
  const half = style === "bf16" ? bf16ToNumber : f16ToNumber;
  if (style !== "bits" && width === 16) return shortFloat(half(Number(bits)));
  if (style !== "bits" && width === 32) {
    const [low, high] = [Number(bits & 0xffffn), Number(bits >> 16n)];
    return `{${shortFloat(half(low))}, ${shortFloat(half(high))}}`;
  }
  const signed = BigInt.asIntN(width, bits);
  return signed >= -1_000_000n && signed < 1_000_000n ? String(signed) : `0x${bits.toString(16)}`;
}

function shortFloat(value: number): string {
  return Number.isInteger(value) && Math.abs(value) < 1e9 ? String(value) : String(Number(value.toPrecision(7)));
}

/** A step for JSON: values as text. */
export function traceStepJson(step: TraceStep, trace: KernelTrace) {
  const { instruction, executed, operands, results, accesses } = step;
  const style = floatStyle(step);
  const values = (list: readonly RegisterValue[]) =>
    list.map(({ register, type, bits }) => ({ register, type, value: formatValue({ register, type, bits }, style) }));
  return {
    ptxLine: instruction.line,
    source: sourceOf(instruction, trace.module),
    text: formatInstruction(instruction),
    executed,
    operands: values(operands),
    results: values(results),
    accesses: accesses.map((access) => ({ ...access, address: `0x${access.address.toString(16)}` })),
  };
}
