#!/usr/bin/env node
import { run } from "./program.ts";

// A reader that goes away (`| head`) is no error of ours.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});

// Where Node would print a warning (it does not with NODE_NO_WARNINGS), it reads like everything else that a command says.
if (process.listenerCount("warning") > 0) {
  process.removeAllListeners("warning");
  process.on("warning", ({ name, message }) => {
    process.stderr.write(name === "LlcudaWarning" ? `llcuda: warning: ${message}\n` : `${name}: ${message}\n`);
  });
}

await run(process.argv.slice(2));
