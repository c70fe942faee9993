/** Every module that exports kernel specifications, one line each; the build collects the specifications from here. */
export * as fill from "./fill/fill.ts";
export * as embedding from "./embedding/embedding.ts";
export * as rmsNorm from "./rms-norm/rms-norm.ts";
export * as activation from "./activation/activation.ts";
export * as softmax from "./softmax/softmax.ts";
export * as matmulHopper from "./matmul/hopper.ts";
