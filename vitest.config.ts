import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // GPU tests share one device: files run one after another in one process, so that modules load once.
    pool: "forks",
  },
});
