import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // With checks kernels run several times slower, see docs/sim.md.
    testTimeout: process.env.LLCUDA_SIM_CHECK === "1" ? 300_000 : 60_000,
    hookTimeout: 60_000,
    // GPU tests share one device: files run one after another in one process, so that modules load once.
    pool: "forks",
  },
});
