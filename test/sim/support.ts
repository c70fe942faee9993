import type { Device } from "../../src/driver/device.ts";
import { openDevice } from "../../src/driver/open.ts";
import { CustomKernel } from "../../src/kernels/custom.ts";
import type { KernelShape } from "../../src/kernels/library.ts";
import type { ArgSpec, ArgValues } from "../../src/kernels/spec.ts";
import { registerSim } from "../../src/sim/register.ts";

export function openSim(target = "sm_80"): Device {
  registerSim();
  return openDevice(`sim:${target}`);
}

/**
 * PTX of one kernel `test` with the parameters `p0`, `p1`, … of 64 bits. Registers %r, %f, %rd, %rs and %p are declared; %tid.x is
 * in %r0 and the parameters in %rd0, %rd1, …
 */
export function kernelText(body: string, parameters = 1, declarations = ""): string {
  const list = Array.from({ length: parameters }, (_, i) => `.param .u64 p${i}`).join(", ");
  const loads = Array.from({ length: parameters }, (_, i) => `  ld.param.u64 %rd${i}, [p${i}];`).join("\n");
  return `.version 8.0
.target sm_80
.address_size 64
.visible .entry test(${list})
{
  .reg .b32 %r<40>;
  .reg .f32 %f<20>;
  .reg .b64 %rd<20>;
  .reg .b16 %rs<8>;
  .reg .pred %p<8>;
  ${declarations}
${loads}
  mov.u32 %r0, %tid.x;
${body}
  ret;
}
`;
}

/** Launches an entry of PTX text once. */
export function launch<A extends ArgSpec>(
  device: Device,
  kernel: { readonly ptx: string; readonly symbol?: string; readonly args: A },
  shape: KernelShape,
  values: ArgValues<A>,
): void {
  using custom = new CustomKernel(device, { ptx: kernel.ptx, symbol: kernel.symbol ?? "test", args: kernel.args });
  custom.launch(shape, values);
}
