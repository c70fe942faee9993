import { ModuleError } from "../../base/errors.ts";

/** PTX text that is not well-formed; the message names the module and the line. */
export class PtxError extends ModuleError {
  readonly line: number;

  constructor(module: string, line: number, detail: string) {
    const message = `${module}: PTX line ${line}: ${detail}`;
    super(message, message);
    this.line = line;
  }
}
