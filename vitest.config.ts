import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // With checks kernels run several times slower, see docs/sim.md.
    testTimeout: process.env.LLCUDA_SIM_CHECK === "1" ? 300_000 : 60_000,
    hookTimeout: 60_000,
    // GPU tests share one device: files run one after another in one process, so that modules load once.
    pool: "forks",
    // The files run side by side already; and threads of the software device load built code only.
    env: { LLCUDA_SIM_THREADS: "1" },
  },
});
