import { registerDevices } from "../driver/open.ts";
import { SimProvider } from "./provider.ts";

/** Lets `openDevice("sim…")` open software devices. Nothing is made until one is opened. */
export function registerSim(): void {
  registerDevices(new SimProvider());
}
