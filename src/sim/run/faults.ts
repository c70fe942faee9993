import { CudaError } from "../../base/errors.ts";
import type { Instruction, PtxModule } from "../ptx/ast.ts";

export interface ThreadPlace {
  readonly block: readonly [number, number, number];
  readonly thread: readonly [number, number, number];
}

/** `softmax_f32 block (0,1,0) thread (5,0,0), PTX line 120 (softmax.cu:41, ld.global.f32)`. */
export function describePlace(
  kernel: string,
  module: Pick<PtxModule, "files">,
  instruction: Instruction,
  place: ThreadPlace | undefined,
): string {
  const who = place ? ` block (${place.block}) thread (${place.thread})` : "";
  return `${kernel}${who}, ${describeLine(module, instruction)}`;
}

/** `PTX line 120 (softmax.cu:41, ld.global.f32)`, or `near softmax.cu:41`; without the source's line where the text has none. */
export function describeLine(module: Pick<PtxModule, "files">, { source, line, text }: Instruction): string {
  const file = source && source.line > 0 ? module.files.get(source.file) : undefined;
  const where = file ? `${source!.near ? "near " : ""}${file}:${source!.line}, ` : "";
  return `PTX line ${line} (${where}${text})`;
}

const statuses = {
  CUDA_ERROR_ILLEGAL_ADDRESS: 700,
  CUDA_ERROR_LAUNCH_FAILED: 719,
  CUDA_ERROR_ILLEGAL_INSTRUCTION: 715,
  CUDA_ERROR_MISALIGNED_ADDRESS: 716,
  CUDA_ERROR_LAUNCH_TIMEOUT: 702,
} as const;

/** What a kernel did that ends its launch, with the driver's name for it. */
export function kernelFault(name: keyof typeof statuses, detail: string): CudaError {
  return new CudaError("cuLaunchKernel", statuses[name], name, `${name}: ${detail}`);
}
