import { Command } from "commander";
import { addSoftwareDevices } from "../options.ts";

export function devicesCommand(): Command {
  return new Command("devices").description("list what models can run on").action(async () => {
    const [{ listDevices }] = await Promise.all([import("../../driver/open.ts"), addSoftwareDevices()]);
    for (const { name, description } of listDevices()) process.stdout.write(`${name}\t${description}\n`);
  });
}
