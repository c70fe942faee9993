import { execFileSync } from "node:child_process";
import { arch, platform } from "node:os";
import { openDevice } from "../../src/driver/open.ts";
import type { Machine } from "./report.ts";
import { isBun } from "./run.ts";

/** First line of a program's output, or undefined where the program is missing or fails. */
function ask(program: string, ...args: string[]): string | undefined {
  try {
    return execFileSync(program, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] })
      .split("\n")[0]!
      .trim();
  } catch {
    return undefined;
  }
}

/** LLCUDA_COMMIT or GITHUB_SHA, else what git says; `unknown` without either. */
function commit(): string {
  const given = process.env.LLCUDA_COMMIT ?? process.env.GITHUB_SHA;
  if (given) return given;
  const head = ask("git", "rev-parse", "--short=12", "HEAD");
  if (!head) return "unknown";
  return ask("git", "status", "--porcelain") ? `${head} with changes` : head;
}

/** Describes cuda:0 and what runs the tests. Throws DeviceError without a GPU. `capability` is times ten. */
export function describeMachine(): { machine: Machine; capability: number } {
  using device = openDevice("cuda:0");
  const { name, capability } = device.attributes;
  const cuda = device.api.driverVersion();
  const version = ask("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0");
  return {
    capability,
    machine: {
      gpu: name,
      capability: (capability / 10).toFixed(1),
      driver: `CUDA ${Math.floor(cuda / 1000)}.${Math.floor((cuda % 1000) / 10)}${version ? `, ${version}` : ""}`,
      runtime: isBun ? `Bun ${process.versions.bun}` : `Node ${process.versions.node}`,
      system: `${platform()} ${arch()}`,
      commit: commit(),
      date: new Date().toISOString().slice(0, 10),
    },
  };
}
