import { UnsupportedError } from "../../base/errors.ts";
import { memoryMap, warpSlots } from "../memory-map.ts";
import type { Instruction, Operand, Register, Variable } from "../ptx/ast.ts";
import { bitsToFloat, floatToBits } from "../ptx/literals.ts";
import { type PtxType, ptxType } from "../ptx/types.ts";
import type { FlowReports } from "../run/watch.ts";
import type { Code } from "../wasm/code.ts";
import type { ValueType } from "../wasm/opcodes.ts";
import type { BitSet } from "./bits.ts";
import { functionIndex } from "./helpers.ts";
import { canonicalize } from "./nan.ts";

/** Parameters and fixed locals of a region's function. */
export interface LaneLocals {
  /** i32: the lane's number, its warp's area plus 4 and plus 8 times that. */
  readonly lane: number;
  readonly area4: number;
  readonly area8: number;
  /** i32: the lane's frame of local memory. */
  readonly frame: number;
  /** i64: the end of device memory, by log2 of the access size: divided by it. */
  readonly limits: readonly number[];
  /** i32: the same of shared memory. */
  readonly sharedLimits: readonly number[];
}

/** What the code of one kernel shares. */
export interface KernelContext {
  readonly module: string;
  readonly kernel: string;
  readonly deviceBase: bigint;
  /** The address that a symbol stands for in its state space. */
  readonly symbolAddress: (variable: Variable) => bigint;
  readonly localBytes: number;
  readonly parameterBytes: number;
  readonly checked: boolean;
  /** What the code reports of lanes' ways and operands; undefined for nothing. */
  readonly flow: FlowReports | undefined;
  /** Registers whose NaN are made canonical where their bits are looked at: see looseRegisters. */
  readonly loose: BitSet;
  /** Instructions that may fault, by the number that the compiled code passes. */
  readonly sites: Instruction[];
}

export const u32: PtxType = ptxType("u32")!;
export const b32: PtxType = u32;
export const s32: PtxType = ptxType("s32")!;
export const u64: PtxType = ptxType("u64")!;
export const f32: PtxType = ptxType("f32")!;
export const f64: PtxType = ptxType("f64")!;
export const predicate: PtxType = ptxType("pred")!;

/** Writes the code of single instructions for one lane: registers are WebAssembly locals. */
export class LaneEmitter {
  readonly c: Code;
  readonly locals: LaneLocals;
  readonly context: KernelContext;
  readonly #registers = new Map<number, number>();
  /** The carry flag of addc and its like; made on first use. */
  #carry: number | undefined;
  #instruction: Instruction | undefined;

  constructor(code: Code, locals: LaneLocals, context: KernelContext) {
    this.c = code;
    this.locals = locals;
    this.context = context;
  }

  begin(instruction: Instruction): void {
    this.#instruction = instruction;
  }

  get instruction(): Instruction {
    return this.#instruction!;
  }

  get carry(): number {
    this.#carry ??= this.c.local("i32");
    return this.#carry;
  }

  /** The local that holds a register. */
  local(register: Register): number {
    const known = this.#registers.get(register.index);
    if (known !== undefined) return known;
    const local = this.c.local(registerType(register).value);
    this.#registers.set(register.index, local);
    return local;
  }

  call(name: Parameters<typeof functionIndex>[0]): Code {
    return this.c.call(functionIndex(name));
  }

  /** The number of the instruction being written, for reports of faults. */
  site(): number {
    const { sites } = this.context;
    if (sites.at(-1) !== this.instruction) sites.push(this.instruction);
    return sites.length - 1;
  }

  has(modifier: string): boolean {
    return this.instruction.modifiers.includes(modifier);
  }

  /** The types among the modifiers, in order. */
  types(): PtxType[] {
    return this.instruction.modifiers.map(ptxType).filter((type) => type !== undefined);
  }

  type(): PtxType {
    return this.types().at(-1) ?? this.unsupported("it has no type");
  }

  operand(i: number): Operand {
    return this.instruction.operands[i] ?? this.unsupported(`operand ${i + 1} is missing`);
  }

  unsupported(why?: string): never {
    const { module, kernel } = this.context;
    const { text, line } = this.instruction;
    throw new UnsupportedError(
      `sim: instruction ${text} in ${kernel} (${module}, PTX line ${line}) is not implemented${why ? `: ${why}` : ""}`,
    );
  }

  /** Puts an operand's value on the stack as `type` holds it: narrow integers extended by their sign. */
  push(operand: Operand, type: PtxType): Code {
    return this.#push(operand, type, false);
  }

  /** The same for a float of which a NaN's payload does not matter. */
  pushNumber(operand: Operand, type: PtxType): Code {
    return this.#push(operand, type, true);
  }

  /** Takes a float that arithmetic made from the stack: a NaN of f32 becomes the canonical one, at the latest when it is read. */
  popNumber(operand: Operand, type: PtxType): void {
    if (type.value === "f32" && !(operand.kind === "register" && this.#isLoose(operand.register))) canonicalize(this.c);
    this.pop(operand, type);
  }

  /** mov of f32 between such registers. */
  movesLoosely(to: Operand, from: Operand): boolean {
    return (
      to.kind === "register" && from.kind === "register" && this.#isLoose(to.register) && this.#isLoose(from.register)
    );
  }

  #isLoose(register: Register): boolean {
    return this.context.loose.has(register.index);
  }

  #push(operand: Operand, type: PtxType, isNumber: boolean): Code {
    const { c } = this;
    switch (operand.kind) {
      case "register":
        c.get(this.local(operand.register));
        if (!isNumber && this.#isLoose(operand.register)) canonicalize(c);
        this.#adapt(registerType(operand.register), type);
        if (operand.negated) c.op("i32_eqz");
        return c;
      case "integer":
        return this.#pushInteger(operand.value, type);
      case "float":
        return this.#pushFloat(operand.bits, operand.width, type);
      case "special":
        return this.#pushSpecial(operand.name, type);
      case "symbol":
        return this.#pushInteger(this.context.symbolAddress(operand.variable) + BigInt(operand.offset), type);
      default:
        return this.unsupported(`a ${operand.kind} cannot be read as .${type.name}`);
    }
  }

  /** Takes a value of `type` from the stack into a register. */
  pop(operand: Operand, type: PtxType): void {
    const { c } = this;
    if (operand.kind === "sink") {
      c.op("drop");
      return;
    }
    if (operand.kind !== "register") this.unsupported(`a ${operand.kind} cannot be written`);
    const own = registerType(operand.register);
    this.#convertValue(type.value, own.value, type.kind === "signed");
    if (own.kind !== "predicate" && own.bytes < 4) c.i32(own.bytes === 2 ? 0xffff : 0xff).op("i32_and");
    c.set(this.local(operand.register));
  }

  #adapt(own: PtxType, type: PtxType): void {
    const { c } = this;
    this.#convertValue(own.value, type.value, type.kind === "signed");
    if (type.kind === "float" || type.kind === "predicate" || type.value !== "i32") return;
    if (type.bytes === 2) {
      if (type.kind === "signed") c.op("i32_extend16_s");
      else if (own.bytes > 2) c.i32(0xffff).op("i32_and");
    } else if (type.bytes === 1) {
      if (type.kind === "signed") c.op("i32_extend8_s");
      else c.i32(0xff).op("i32_and");
    }
  }

  #convertValue(from: ValueType, to: ValueType, signed: boolean): void {
    const { c } = this;
    if (from === to) return;
    const bits = (value: ValueType): "i32" | "i64" => (value === "f32" || value === "i32" ? "i32" : "i64");
    if (from === "f32") c.op("i32_reinterpret_f32");
    if (from === "f64") c.op("i64_reinterpret_f64");
    if (bits(from) === "i64" && bits(to) === "i32") c.op("i32_wrap_i64");
    if (bits(from) === "i32" && bits(to) === "i64") c.op(signed ? "i64_extend_i32_s" : "i64_extend_i32_u");
    if (to === "f32") c.op("f32_reinterpret_i32");
    if (to === "f64") c.op("f64_reinterpret_i64");
  }

  #pushInteger(value: bigint, type: PtxType): Code {
    const { c } = this;
    if (type.value === "i64") return c.i64(value);
    if (type.value === "f32") return c.f32(floatToBits(Number(value), 32));
    if (type.value === "f64") return c.f64Value(Number(value));
    const bits = 8 * Math.min(4, type.bytes);
    if (type.kind === "predicate") return c.i32(value === 0n ? 0 : 1);
    return c.i32(Number(type.kind === "signed" ? BigInt.asIntN(bits, value) : BigInt.asUintN(bits, value)));
  }

  #pushFloat(bits: bigint, width: 32 | 64, type: PtxType): Code {
    const { c } = this;
    if (type.value === "f32") return c.f32(width === 32 ? bits : floatToBits(bitsToFloat(bits, 64), 32));
    if (type.value === "f64") return width === 64 ? c.f64(bits) : c.f64Value(bitsToFloat(bits, 32));
    if (type.value === "i64") return c.i64(bits);
    return c.i32(Number(BigInt.asIntN(32, width === 32 ? bits : floatToBits(bitsToFloat(bits, 64), 32))));
  }

  #pushSpecial(name: string, type: PtxType): Code {
    const { c } = this;
    const { lane, area4 } = this.locals;
    const at = (address: number) => c.base().memory("i32_load", address);
    const axes: Record<string, number> = { x: 0, y: 4, z: 8 };
    const [base = "", part = ""] = name.split(".");
    const axis = axes[part];
    if (base === "%clock64" || base === "%globaltimer") {
      this.call("clock");
      this.#convertValue("i64", type.value, false);
      return c;
    }
    if (axis !== undefined && base === "%tid") c.get(area4).memory("i32_load", warpSlots.threadX + 32 * axis);
    else if (axis !== undefined && base === "%ntid") at(memoryMap.blockShape + axis);
    else if (axis !== undefined && base === "%ctaid") at(memoryMap.blockIndex + axis);
    else if (axis !== undefined && base === "%nctaid") at(memoryMap.gridShape + axis);
    else if (base === "%laneid") c.get(lane);
    else if (base === "%warpid") c.get(area4).memory("i32_load", warpSlots.warp);
    else if (base === "%smid" || base === "%gridid") c.i32(0);
    else if (base === "%nsmid") c.i32(1);
    else if (base === "%clock" || base === "%clock_hi") {
      this.call("clock");
      if (base === "%clock_hi") c.i64(32n).op("i64_shr_u");
      c.op("i32_wrap_i64");
    } else if (base === "%lanemask_eq") c.i32(1).get(lane).op("i32_shl");
    else if (base === "%lanemask_lt") c.i32(1).get(lane).op("i32_shl").i32(1).op("i32_sub");
    else if (base === "%lanemask_le") c.i32(2).get(lane).op("i32_shl").i32(1).op("i32_sub");
    else if (base === "%lanemask_gt") c.i32(-2).get(lane).op("i32_shl");
    else if (base === "%lanemask_ge") c.i32(-1).get(lane).op("i32_shl");
    else if (base === "%dynamic_smem_size") at(memoryMap.dynamicSharedBytes);
    else if (base === "%total_smem_size") at(memoryMap.sharedBytes);
    else this.unsupported(`special register ${name}`);
    this.#convertValue("i32", type.value, false);
    return c;
  }
}

export function registerType(register: Register): PtxType {
  return ptxType(register.type)!;
}
