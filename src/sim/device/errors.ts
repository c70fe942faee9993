import { CudaError } from "../../base/errors.ts";

/** The statuses that the simulated driver returns, as cuda.h has them. */
const statuses = {
  CUDA_ERROR_INVALID_VALUE: 1,
  CUDA_ERROR_INVALID_DEVICE: 101,
  CUDA_ERROR_INVALID_CONTEXT: 201,
  CUDA_ERROR_INVALID_HANDLE: 400,
  CUDA_ERROR_ILLEGAL_STATE: 401,
  CUDA_ERROR_NOT_FOUND: 500,
  CUDA_ERROR_NOT_READY: 600,
  CUDA_ERROR_ILLEGAL_ADDRESS: 700,
  CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES: 701,
  CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED: 900,
  CUDA_ERROR_STREAM_CAPTURE_INVALIDATED: 901,
  CUDA_ERROR_STREAM_CAPTURE_UNJOINED: 904,
} as const;

export type SimStatus = keyof typeof statuses;

export function simError(symbol: string, name: SimStatus, detail: string): CudaError {
  return new CudaError(symbol, statuses[name], name, `${symbol}: ${name}: ${detail}`);
}

/** Throws for a handle that names nothing. */
export function found<T>(value: T | undefined, symbol: string, what: string): T {
  if (value === undefined) throw simError(symbol, "CUDA_ERROR_INVALID_HANDLE", `there is no such ${what}`);
  return value;
}
