import { LlcudaError } from "../base/errors.ts";

/** 1: a check failed. 2: input that cannot be used, or a device that is not there. 130: interrupted. */
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

/** Runs something that Ctrl-C aborts; a second Ctrl-C ends the process at once. */
export async function interruptible<T>(run: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const interrupt = () => {
    if (controller.signal.aborted) process.exit(exitCodes.interrupted);
    controller.abort();
  };
  process.on("SIGINT", interrupt);
  try {
    return await run(controller.signal);
  } finally {
    process.removeListener("SIGINT", interrupt);
  }
}
