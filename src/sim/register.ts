import { registerDevices } from "../driver/open.ts";
import { SimProvider } from "./provider.ts";

const provider = new SimProvider();

/** Lets `openDevice("sim…")` open software devices. Nothing is made until one is opened. */
export function registerSim(): void {
  registerDevices(provider);
}
