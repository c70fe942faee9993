import { spawn } from "node:child_process";
import { extname } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import type { Finding, Report } from "../doctor/finding.ts";
import { exitCodes } from "../errors.ts";
import { bold } from "../terminal.ts";

interface Flags {
  readonly json?: boolean;
  readonly examine?: boolean;
}

export function doctorCommand(): Command {
  const command = new Command("doctor")
    .description(
      "check driver, GPUs, libraries and kernels, and say what is missing or slow; exit code 0, or 2 if not usable",
    )
    .option("--json", "print the findings as JSON")
    .action(run);
  // What the command starts in a process of its own, so that a driver that crashes is a line of the report.
  return command.addOption(command.createOption("--examine", "run the checks in this process").hideHelp());
}

async function run(flags: Flags): Promise<void> {
  if (flags.examine) {
    const { examine } = await import("../doctor/examine.ts");
    for (const report of examine()) process.stdout.write(`${JSON.stringify(report)}\n`);
    return;
  }
  const findings: Finding[] = [];
  const take = (finding: Finding) => {
    if (!flags.json) print(finding, findings.at(-1)?.section);
    findings.push(finding);
  };
  const crash = await examineInChild(take);
  if (crash) take(crash);
  const usable = findings.every((f) => f.status !== "failed") && findings.some((f) => f.label === "GPU");
  if (flags.json) process.stdout.write(`${JSON.stringify({ usable, findings }, null, 2)}\n`);
  else
    process.stdout.write(
      usable ? "\nllcuda can run here\n" : `\nllcuda cannot run on a GPU here yet${softwareNote(findings)}\n`,
    );
  if (!usable) process.exitCode = exitCodes.badInput;
}

function softwareNote(findings: readonly Finding[]): string {
  const works = findings.some((f) => f.section === "software device" && f.status !== "failed");
  return works ? "; without one it runs on the software device, which is slow" : "";
}

/** Resolves to a finding when the child did not end well. */
function examineInChild(take: (finding: Finding) => void): Promise<Finding | undefined> {
  // Beside this file: main.js of the package, main.ts of a checkout run from its sources.
  const main = fileURLToPath(new URL(`../main${extname(import.meta.url)}`, import.meta.url));
  const child = spawn(process.execPath, [...process.execArgv, main, "doctor", "--examine"], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let doing = "starting";
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    errors = (errors + text).slice(-2000);
  });
  createInterface({ input: child.stdout }).on("line", (line) => {
    const report = JSON.parse(line) as Report;
    if ("doing" in report) doing = report.doing;
    else take(report);
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      if (code === 0) return resolve(undefined);
      const how = signal ? `crashed with ${signal}` : `ended with code ${code}`;
      const detail = `the check ${how} while ${doing}${errors ? `: ${errors.trim()}` : ""}`;
      resolve({ section: "check", label: "process", status: "failed", detail });
    });
  });
}

const marks = { ok: "✓", slow: "~", missing: "-", failed: "✗" } as const;

function print({ section, label, status, detail }: Finding, previous: string | undefined): void {
  if (section !== previous) process.stdout.write(`${previous === undefined ? "" : "\n"}${bold(section)}\n`);
  process.stdout.write(`  ${marks[status]} ${label.padEnd(12)} ${detail}\n`);
}
