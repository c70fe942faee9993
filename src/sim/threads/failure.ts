import { CudaError, LlcudaError } from "../../base/errors.ts";
import type { Failure } from "./messages.ts";

export function describeFailure(error: unknown): Failure {
  const message = error instanceof Error ? error.message : String(error);
  if (!(error instanceof CudaError)) return { message, cuda: undefined };
  return { message, cuda: { api: error.symbol, status: error.status, name: error.statusName } };
}

export function restoreFailure({ message, cuda }: Failure): LlcudaError {
  return cuda ? new CudaError(cuda.api, cuda.status, cuda.name, message) : new LlcudaError("SIM_THREAD", message);
}
