import { writeFileSync } from "node:fs";
import { type ParseArgsConfig, parseArgs } from "node:util";
import { ArgumentError } from "../../src/base/errors.ts";
import { settings } from "../../src/base/settings.ts";
import type { Device } from "../../src/driver/device.ts";
import { openDevice } from "../../src/driver/open.ts";
import { registerSim } from "../../src/sim/register.ts";
import { type MachineInfo, machineInfo, machineLine } from "./machine.ts";
import { formatTable, type Row } from "./table.ts";

export interface Bench {
  /** Runs with the arguments after the benchmark's name; returns the exit code. */
  run(args: string[]): Promise<number>;
}

type Options = NonNullable<ParseArgsConfig["options"]>;
/** A string option with the line that `--help` prints for it. */
export interface BenchOption {
  readonly help: string;
  readonly default?: string;
}
type Values<O> = { readonly [K in keyof O]: O[K] extends { default: string } ? string : string | undefined };

export interface BenchContext {
  readonly device: Device;
  readonly machine: MachineInfo;
  /** Prints a table, and keeps its rows for `--json`. Numbers stay numbers there. */
  table(title: string, rows: readonly Row[]): void;
  /** Prints a line that is not part of the results. */
  note(line: string): void;
}

/**
 * A benchmark: its options beside the common ones (--device, --json), and what it measures. The frame opens the device,
 * prints the machine's line, and writes the JSON file: `{ bench, machine, options, tables: [{ title, rows }] }`.
 */
export function defineBench<const O extends Record<string, BenchOption>>(spec: {
  readonly name: string;
  readonly options: O;
  /** Opens the device only when `measure` asks for it (do not take it apart in the parameter list). */
  readonly deviceOnDemand?: boolean;
  measure(context: BenchContext, options: Values<O>): void | Promise<void>;
}): Bench {
  return {
    async run(args) {
      const known: Record<string, BenchOption> = {
        ...spec.options,
        device: { help: "where to run, such as cuda:1, or sim for what needs no clock" },
        json: { help: "also write the results to this file" },
      };
      const values = parse(spec.name, known, args);
      if (values === undefined) {
        console.log(help(spec.name, known));
        return 0;
      }
      let opened: { readonly device: Device; readonly machine: MachineInfo } | undefined;
      const open = () => {
        if (opened) return opened;
        registerSim();
        // Only where it was asked for: the time that the software device takes says nothing of a GPU.
        const device = openDevice(values.device ?? settings.device() ?? "cuda");
        opened = { device, machine: machineInfo(device) };
        console.log(machineLine(opened.machine));
        return opened;
      };
      if (!spec.deviceOnDemand) open();
      const tables: { title: string; rows: readonly Row[] }[] = [];
      await spec.measure(
        {
          get device() {
            return open().device;
          },
          get machine() {
            return open().machine;
          },
          table(title, rows) {
            tables.push({ title, rows });
            console.log(`\n${title}\n${formatTable(rows)}`);
          },
          note: (line) => console.log(line),
        },
        values as Values<O>,
      );
      if (values.json) {
        const { json: _, ...options } = values;
        writeFileSync(
          values.json,
          `${JSON.stringify({ bench: spec.name, machine: opened?.machine, options, tables }, null, 2)}\n`,
        );
      }
      opened?.device.dispose();
      return 0;
    },
  };
}

function parse(
  name: string,
  known: Record<string, BenchOption>,
  args: string[],
): Record<string, string | undefined> | undefined {
  const options: Options = { help: { type: "boolean", short: "h" } };
  for (const [key, option] of Object.entries(known)) {
    options[key] = option.default === undefined ? { type: "string" } : { type: "string", default: option.default };
  }
  try {
    const { values } = parseArgs({ args, options, allowPositionals: false });
    return values.help ? undefined : (values as Record<string, string | undefined>);
  } catch (error) {
    throw new ArgumentError(`${name}: ${(error as Error).message}; see ${name} --help`);
  }
}

function help(name: string, known: Record<string, BenchOption>): string {
  const lines = Object.entries(known).map(([key, option]) => {
    const fallback = option.default === undefined || option.default === "" ? "" : ` (default ${option.default})`;
    return `  --${key.padEnd(10)} ${option.help}${fallback}`;
  });
  return [`Usage: npm run bench -- ${name} [options]`, "", ...lines].join("\n");
}

/** A whole number of at least 1. Throws ArgumentError. */
export function positiveInteger(option: string, text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) {
    throw new ArgumentError(`--${option}: "${text}" is not a whole number of at least 1`);
  }
  return value;
}
