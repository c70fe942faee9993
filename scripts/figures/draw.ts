import { openDevice } from "../../src/driver/open.ts";
import { registerSim } from "../../src/sim/register.ts";
import { projections } from "./demo-weights.ts";
import { nf4Codes, nf4Levels } from "./nf4-levels.ts";
import { typeErrors } from "./type-errors.ts";
import { typeLosses } from "./type-losses.ts";

/** All figures by file name, as SVG. */
export async function drawFigures(): Promise<Readonly<Record<string, string>>> {
  registerSim();
  const device = openDevice("sim:sm_80");
  try {
    const matrices = await projections("demo", device);
    return {
      "nf4-levels.svg": nf4Levels(matrices.values()),
      "nf4-codes.svg": nf4Codes(matrices.values()),
      "type-errors.svg": typeErrors(typeLosses(device, matrices)),
    };
  } finally {
    device.dispose();
  }
}
