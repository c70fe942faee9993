import type { InstructionCase, Result } from "./case.ts";
import { rowCount } from "./operands.ts";
import { registerBytes, sourceRegister } from "./sources.ts";

export function resultBytes(result: Result): number {
  return result === "pred" ? 4 : result.startsWith("m") ? Number(result.slice(1)) : registerBytes(result);
}

/** The kernel of a case: one thread per row; parameters are the addresses of the inputs, then of the outputs. */
export function kernelText(instruction: InstructionCase): string {
  const { code, inputs, outputs, capability, declarations, module } = instruction;
  const parameters = [...inputs.map((_, i) => `i${i}`), ...outputs.map((_, i) => `o${i}`)];
  const registers = parameters.map((name) => `.reg .b64 %a${name};`);
  const lines: string[] = [];
  const address = (name: string, bytes: number): void => {
    lines.push(`ld.param.u64 %a${name}, [${name}];`, `cvta.to.global.u64 %a${name}, %a${name};`);
    lines.push(`mad.wide.u32 %a${name}, %row, ${bytes}, %a${name};`);
  };
  inputs.forEach((source, i) => {
    const register = sourceRegister(source);
    registers.push(`.reg .${register} %i${i};`);
    address(`i${i}`, registerBytes(register));
    if (register === "pred") lines.push(`ld.global.u32 %t, [%ai${i}];`, `setp.ne.u32 %i${i}, %t, 0;`);
    else lines.push(`ld.global.${register} %i${i}, [%ai${i}];`);
  });
  const stores: string[] = [];
  outputs.forEach((result, i) => {
    address(`o${i}`, resultBytes(result));
    if (result.startsWith("m")) return;
    registers.push(`.reg .${result} %o${i};`);
    if (result === "pred") stores.push(`selp.u32 %t, 1, 0, %o${i};`, `st.global.u32 [%ao${i}], %t;`);
    else stores.push(`st.global.${result} [%ao${i}], %o${i};`);
  });
  return `.version 8.4
.target sm_${capability}
.address_size 64
${module}
.visible .entry k(${parameters.map((name) => `.param .u64 ${name}`).join(", ")})
{
.reg .pred %p, %q;
.reg .b16 %h, %g;
.reg .b32 %t, %u, %v, %row, %lane;
.reg .b64 %x, %y;
.reg .f32 %f;
.reg .f64 %e;
${registers.join("\n")}
${declarations}
mov.u32 %row, %ctaid.x;
mov.u32 %t, %ntid.x;
mov.u32 %lane, %tid.x;
mad.lo.u32 %row, %row, %t, %lane;
mov.u32 %lane, %laneid;
${lines.join("\n")}
${code}
${stores.join("\n")}
ret;
}
`;
}

/** Bytes that the results of all rows take. */
export function outputSizes({ outputs }: InstructionCase): number[] {
  return outputs.map((result) => rowCount * resultBytes(result));
}
