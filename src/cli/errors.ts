import { LlcudaError } from "../base/errors.ts";

/** 1: a check failed. 2: input that cannot be used, or no device to use it on. 130: interrupted. */
export const exitCodes = { failed: 1, badInput: 2, interrupted: 130 } as const;

/** Prints what went wrong and sets the exit code: one sentence for what we foresaw, a stack for what we did not. */
export function reportError(error: unknown): void {
  if (error instanceof LlcudaError) {
    process.stderr.write(`llcuda: ${error.message}\n`);
    process.exitCode = exitCodes.badInput;
  } else if (error instanceof Error && error.name === "AbortError") {
    process.exitCode = exitCodes.interrupted;
  } else {
    process.stderr.write(
      `llcuda: unexpected error, please report it\n${error instanceof Error ? error.stack : error}\n`,
    );
    process.exitCode = exitCodes.failed;
  }
}

/** Aborts on Ctrl-C; a second one ends the process at once. */
export function interruptSignal(): AbortSignal {
  const controller = new AbortController();
  process.once("SIGINT", () => {
    controller.abort();
    process.once("SIGINT", () => process.exit(exitCodes.interrupted));
  });
  return controller.signal;
}
