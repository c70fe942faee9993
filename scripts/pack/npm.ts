import { execFileSync } from "node:child_process";

/** Runs npm in a folder and gives what it prints; throws with npm's own words when it fails. */
export function npm(folder: string, args: readonly string[]): string {
  // npm is a script, which Windows starts only through a shell.
  const options = { cwd: folder, encoding: "utf8", shell: process.platform === "win32", stdio: "pipe" } as const;
  try {
    return execFileSync("npm", [...args], options);
  } catch (cause) {
    const { stdout, stderr } = cause as { stdout?: string; stderr?: string };
    throw new Error(`npm ${args.join(" ")} failed in ${folder}:\n${stdout ?? ""}${stderr ?? ""}`, { cause });
  }
}
