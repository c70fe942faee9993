import { defineConfig, type TestProjectConfiguration } from "vitest/config";
import { defaultSimTarget, simTargets } from "./src/sim/device/targets.ts";

/** Watched kernels take several times as long. */
const checkedTimeoutMs = 300_000;
const gpuTests = "test/**/*.gpu.test.ts";
/** Tests of what needs the real driver, or instructions that the software device does not have: sm_90's, and cuBLASLt. */
const hardwareTests = ["test/driver/cuda.gpu.test.ts", "test/**/*hopper.gpu.test.ts", "test/**/cublaslt.gpu.test.ts"];
/**
 * What runs on the software devices. Everything on the default one; all kernels on the oldest, whose PTX is its own. The others
 * take most of theirs from these two: the same text would run again, save where an instruction of their own (wmma) or the
 * device's limits choose another kernel. `npm run test:sim` runs everything everywhere.
 */
const kernelTests = ["test/kernels/**/*.gpu.test.ts", "test/tensor/**/*.gpu.test.ts", "test/models/verify.gpu.test.ts"];
const limitedTests = [
  "test/kernels/attention.gpu.test.ts",
  "test/kernels/matmul/**/*.gpu.test.ts",
  "test/kernels/moe/**/*.gpu.test.ts",
  "test/kernels/quant/**/*.gpu.test.ts",
  "test/kernels/topk.gpu.test.ts",
  "test/models/verify.gpu.test.ts",
];

/** Batches of many sequences and long contexts: minutes on a software device, seconds on a GPU. */
const slowTests = ["test/engine/generate.gpu.test.ts"];

function testsOf(target: string): string[] {
  if (target === defaultSimTarget) return [gpuTests];
  return target === "sm_60" ? kernelTests : limitedTests;
}

/** The GPU tests on one software device. */
function simProject(target: string, everything: boolean): TestProjectConfiguration {
  return {
    extends: true,
    test: {
      name: `sim:${target}`,
      include: everything ? [gpuTests] : testsOf(target),
      exclude: everything ? hardwareTests : [...hardwareTests, ...slowTests],
      // Kernels are translated once for all files of a process.
      isolate: false,
      env: { LLCUDA_TEST_DEVICE: `sim:${target}` },
    },
  };
}

/** Kernels whose shared memory and barriers are worth watching at every change, with checks: see docs/sim.md. */
const checkedProject: TestProjectConfiguration = {
  extends: true,
  test: {
    name: "checked:sm_80",
    include: ["lora", "reduce", "rms-norm", "softmax", "topk"].map((name) => `test/kernels/${name}.gpu.test.ts`),
    isolate: false,
    testTimeout: checkedTimeoutMs,
    env: { LLCUDA_TEST_DEVICE: "sim:sm_80", LLCUDA_SIM_CHECK: "1" },
  },
};

/** `--mode all`: no target is spared a test. */
export default defineConfig(({ mode }) => ({
  test: {
    testTimeout: process.env.LLCUDA_SIM_CHECK === "1" ? checkedTimeoutMs : 120_000,
    hookTimeout: 120_000,
    globalSetup: "test/support/global-setup.ts",
    // GPU tests share one device: files run one after another in one process, so that modules load once.
    pool: "forks",
    // One process for each core, where the default leaves one core idle.
    maxWorkers: "100%",
    // The files run side by side already; and threads of the software device load built code only.
    env: { LLCUDA_SIM_THREADS: "1" },
    projects: [
      { extends: true, test: { name: "host", include: ["test/**/*.test.ts"] } },
      // Unless a device was named to run the tests on.
      ...(process.env.LLCUDA_TEST_DEVICE === undefined
        ? [...simTargets.map((t) => simProject(t, mode === "all")), checkedProject]
        : []),
    ],
  },
}));
