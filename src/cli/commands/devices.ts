import { Command } from "commander";
import { exitCodes } from "../errors.ts";

export function devicesCommand(): Command {
  return new Command("devices").description("list what models can run on").action(async () => {
    const { listDevices } = await import("../../driver/open.ts");
    const devices = listDevices();
    for (const { name, description } of devices) process.stdout.write(`${name}\t${description}\n`);
    if (devices.length === 0) {
      process.stderr.write("llcuda: there is no device here; llcuda doctor says what is missing\n");
      process.exitCode = exitCodes.badInput;
    }
  });
}
