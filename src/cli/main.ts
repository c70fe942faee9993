#!/usr/bin/env node
import { reportError } from "./errors.ts";
import { createProgram } from "./program.ts";

// A reader that goes away (`| head`) is no error of ours.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});

const program = createProgram();
if (process.argv.length <= 2) program.outputHelp();
else program.parseAsync().catch(reportError);
