import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import type { Device } from "../../src/driver/device.ts";

export interface MachineInfo {
  readonly gpu: string;
  readonly multiprocessors: number;
  readonly l2Bytes: number;
  /** The CUDA version that the driver supports: `13.0`. */
  readonly cuda: string;
  /** The NVIDIA driver's own version, where it can be read: `580.159.04`. */
  readonly driver: string | undefined;
  /** `node 20.20.2`, `bun 1.3.1`. */
  readonly runtime: string;
  /** Short commit, with `+` when files differ from it; undefined outside a git checkout. */
  readonly commit: string | undefined;
  /** ISO 8601, to the second. */
  readonly date: string;
}

export function machineInfo(device: Device): MachineInfo {
  const version = device.api.driverVersion();
  return {
    gpu: device.attributes.name,
    multiprocessors: device.attributes.multiprocessors,
    l2Bytes: device.attributes.l2Bytes,
    cuda: `${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}`,
    driver: driverVersion(),
    runtime: process.versions.bun ? `bun ${process.versions.bun}` : `node ${process.versions.node}`,
    commit: commit(),
    date: `${new Date().toISOString().slice(0, 19)}Z`,
  };
}

export function machineLine(m: MachineInfo): string {
  const driver = m.driver ? `driver ${m.driver}, CUDA ${m.cuda}` : `CUDA ${m.cuda}`;
  return [m.gpu, driver, m.runtime, m.commit ? `commit ${m.commit}` : "no commit", m.date].join(" | ");
}

/** Linux says it in /proc; elsewhere nvidia-smi may. */
function driverVersion(): string | undefined {
  try {
    return /\b(\d{3,}\.\d+(?:\.\d+)?)\b/.exec(readFileSync("/proc/driver/nvidia/version", "utf8"))?.[1];
  } catch {
    return output("nvidia-smi", ["--query-gpu=driver_version", "--format=csv,noheader"])?.split("\n")[0];
  }
}

function commit(): string | undefined {
  const id = output("git", ["rev-parse", "--short", "HEAD"]);
  if (!id) return undefined;
  return output("git", ["status", "--porcelain", "--untracked-files=no"]) ? `${id}+` : id;
}

function output(command: string, args: string[]): string | undefined {
  try {
    return execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return undefined;
  }
}
