import { bfloat16, float32 } from "../src/base/dtype.ts";
import { UnsupportedError } from "../src/base/errors.ts";
import { ptrAdd } from "../src/driver/api.ts";
import { defineBench, positiveInteger } from "./support/bench.ts";
import { loadProbes } from "./support/probes.ts";
import { ProductData, parseKernel, productFlops } from "./support/product.ts";
import type { Row } from "./support/table.ts";
import { timeRotating } from "./support/timing.ts";

/** What the machine can do, measured: the ceilings that the other benchmarks are compared with. */
export const bench = defineBench({
  name: "bandwidth",
  options: { megabytes: { help: "size of the buffer that is copied and read", default: "2048" } },
  measure({ device, table, note }, options) {
    const bytes = positiveInteger("megabytes", options.megabytes) * 2 ** 20;
    const probes = loadProbes(device);
    const rows: Row[] = [];
    {
      using buffer = device.allocate(2 * bytes, { tag: "bench" });
      probes.fillRandom(buffer.ptr, 2 * bytes, float32, 1);
      const halves = [buffer.ptr, ptrAdd(buffer.ptr, bytes)] as const;
      const copy = timeRotating(device, 2, (i) => device.stream.copyOnDevice(halves[i]!, halves[1 - i]!, bytes));
      rows.push({ what: "device memory, copy (read + write)", rate: (2 * bytes) / copy.medianUs / 1e6, unit: "TB/s" });
      let covered = bytes;
      const read = timeRotating(device, 2, (i) => {
        covered = probes.read(halves[i]!, bytes);
      });
      rows.push({ what: "device memory, read only", rate: covered / read.medianUs / 1e6, unit: "TB/s" });
    }
    for (const side of [4096, 8192]) {
      const shape = { m: side, n: side, k: side };
      using data = new ProductData(device, probes, shape, bfloat16);
      const timing = data.time(parseKernel("cublaslt"));
      if (timing instanceof UnsupportedError) {
        note(timing.message);
        break;
      }
      rows.push({
        what: `bf16 matrix product, cuBLASLt, ${side}^3`,
        rate: productFlops(shape) / timing.medianUs / 1e6,
        unit: "TFLOP/s",
      });
    }
    table("Ceilings of this machine, medians of graph replays", rows);
  },
});
