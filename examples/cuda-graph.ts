/**
 * Work that is captured once and replayed with one call: what a decode step is. Run: npx tsx examples/cuda-graph.ts
 */
import { openDevice, Tensor, tidy } from "llcuda";

const device = openDevice();
const { stream } = device;

using x = Tensor.randn([1, 1024], { device, seed: 1 });
using weight = Tensor.randn([1024, 1024], { device, seed: 2 });
using out = Tensor.empty([1, 1024], { device });

/** One layer: x · W, normed and activated, into `out`. */
const layer = () =>
  tidy(() => {
    out.copy_(
      x
        .matmul(weight)
        .mul(1 / 32)
        .silu(),
    );
  });

layer(); // once as it is, so that kernels are loaded

// Memory of a graph comes from a pool of its own: a replay writes to the same addresses again.
using pool = device.createMemoryPool();
using graph = device.useMemory(pool, () => stream.capture(layer));
using executable = graph.instantiate();

using begin = device.createEvent({ timing: true });
using end = device.createEvent({ timing: true });
const replays = device.attributes.synchronous ? 10 : 1000; // the software device takes its time
stream.record(begin);
for (let i = 0; i < replays; i++) executable.launch(stream);
stream.record(end);
end.synchronize();
console.log(`${((1000 * end.elapsedMs(begin)) / replays).toFixed(1)} us a replay`);
console.log(`mean ${tidy(() => out.mean().item()).toFixed(4)}`);
