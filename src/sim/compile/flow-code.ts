import type { Instruction, Register } from "../ptx/ast.ts";
import { registersOf } from "./effects.ts";
import { type LaneEmitter, registerType } from "./lane.ts";

/** Code that tells a FlowWatch where a lane is; nothing unless the kernel is compiled with `flow`. */
export function emitStep(g: LaneEmitter, fragment: number): void {
  if (!g.context.flow?.steps) return;
  g.c.i32(fragment).get(g.locals.lane);
  g.call("step");
}

/** For a guarded instruction, where its predicate holds. */
export function emitGuarded(g: LaneEmitter): void {
  if (!g.context.flow?.steps) return;
  g.c.i32(g.site()).get(g.locals.lane);
  g.call("guarded");
}

/** Runs `emit`, which writes the code of an instruction, between what tells the registers before and after it. */
export function emitTraced(g: LaneEmitter, instruction: Instruction, emit: () => void): void {
  if (!g.context.flow?.operands) {
    emit();
    return;
  }
  const { c, locals } = g;
  const { read, written } = registersOf(instruction);
  c.temp("i32", (traced) => {
    c.i32(g.site()).get(locals.lane);
    g.call("trace").set(traced);
    const tell = (registers: readonly Register[]): void => {
      if (registers.length === 0) return;
      c.get(traced).block("if");
      for (const register of registers) {
        pushBits(g, register);
        g.call("operand");
      }
      c.end();
    };
    tell(read);
    emit();
    tell(written);
  });
}

function pushBits(g: LaneEmitter, register: Register): void {
  const { c } = g;
  const { value } = registerType(register);
  c.get(g.local(register));
  if (value === "f32") c.op("i32_reinterpret_f32");
  if (value === "f64") c.op("i64_reinterpret_f64");
  if (value === "i32" || value === "f32") c.op("i64_extend_i32_u");
}
