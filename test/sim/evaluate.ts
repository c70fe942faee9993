/** Runs one instruction over many operands: a kernel with one thread per element. */
import type { Device } from "../../src/driver/device.ts";

export type ValueType = "u16" | "s16" | "u32" | "s32" | "u64" | "s64" | "f32" | "f64" | "f16" | "bf16" | "pred";
type Values = Int32Array | Uint32Array | Float32Array | Float64Array | BigInt64Array | BigUint64Array | Uint16Array;

const bytesOf: Record<ValueType, number> = {
  u16: 2,
  s16: 2,
  u32: 4,
  s32: 4,
  u64: 8,
  s64: 8,
  f32: 4,
  f64: 8,
  f16: 2,
  bf16: 2,
  pred: 4,
};

function registerType(type: ValueType): string {
  return type === "f32" || type === "f64" || type === "pred" ? type : `b${8 * bytesOf[type]}`;
}

/**
 * `code` uses the registers %i0, %i1, … and sets %o (and may use %p and %t, a b32, as temporaries). Inputs and output
 * are bits. Predicates go in and out as 0 and 1.
 */
export function evaluate(
  device: Device,
  code: string,
  inputTypes: readonly ValueType[],
  outputType: ValueType,
  inputs: readonly Values[],
  extra = "",
): ArrayBuffer {
  const count = inputs[0]!.length;
  const lines = inputTypes.flatMap((type, i) => {
    const bytes = bytesOf[type];
    const at = [`ld.param.u64 %a, [p${i}];`, `mad.wide.u32 %a, %n, ${bytes}, %a;`];
    if (type === "pred") return [...at, "ld.global.u32 %t, [%a];", `setp.ne.u32 %i${i}, %t, 0;`];
    return [...at, `ld.global.${registerType(type)} %i${i}, [%a];`];
  });
  const store =
    outputType === "pred"
      ? ["selp.u32 %t, 1, 0, %o;", "st.global.u32 [%a], %t;"]
      : [`st.global.${registerType(outputType)} [%a], %o;`];
  const ptx = `.version 7.8
.target sm_60
.address_size 64
.visible .entry evaluate(${inputTypes.map((_, i) => `.param .u64 p${i}, `).join("")}.param .u64 out, .param .u32 count)
{
.reg .pred %p, %q;
.reg .b32 %t, %n, %b, %c;
.reg .b64 %a;
${inputTypes.map((type, i) => `.reg .${registerType(type)} %i${i};`).join("\n")}
.reg .${registerType(outputType)} %o;
${extra}
mov.u32 %n, %ctaid.x;
mov.u32 %b, %ntid.x;
mov.u32 %t, %tid.x;
mad.lo.u32 %n, %n, %b, %t;
ld.param.u32 %c, [count];
setp.ge.u32 %p, %n, %c;
@%p ret;
${lines.join("\n")}
${code}
ld.param.u64 %a, [out];
mad.wide.u32 %a, %n, ${bytesOf[outputType]}, %a;
${store.join("\n")}
ret;
}
`.replaceAll(".target sm_60", `.target sm_${device.attributes.capability >= 80 ? 80 : 60}`);
  using module = device.loadModule(new TextEncoder().encode(ptx), code);
  const fn = module.getFunction("evaluate");
  const args = device.api.scratch(8 * inputs.length + 16);
  const view = new DataView(args.buffer);
  const outBytes = count * bytesOf[outputType];
  const largest = Math.max(outBytes, ...inputs.map((input) => input.byteLength));
  using staging = device.allocatePinned(largest);
  const buffers = inputs.map((input, i) => {
    const buffer = device.allocate(input.byteLength);
    new Uint8Array(staging.buffer).set(new Uint8Array(input.buffer, input.byteOffset, input.byteLength));
    device.stream.copyToDevice(buffer.ptr, staging, 0, input.byteLength);
    device.stream.synchronize();
    view.setBigUint64(8 * i, buffer.ptr, true);
    return buffer;
  });
  using out = device.allocate(outBytes);
  view.setBigUint64(8 * inputs.length, out.ptr, true);
  view.setUint32(8 * inputs.length + 8, count, true);
  const shape = { grid: [Math.ceil(count / 128), 1, 1], block: [128, 1, 1], sharedBytes: 0 } as const;
  fn.launch(device.stream, shape, args, 8 * inputs.length + 12);
  device.stream.copyToHost(staging, 0, out.ptr, outBytes);
  device.stream.synchronize();
  for (const buffer of buffers) buffer.dispose();
  return staging.buffer.slice(0, outBytes);
}
