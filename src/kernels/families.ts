/** Every module that exports kernel specifications, one line each; the build collects the specifications from here. */
export * as activation from "./activation/activation.ts";
export * as argmax from "./argmax/argmax.ts";
export * as attention from "./attention/attention.ts";
export * as copy from "./copy/copy.ts";
export * as embedding from "./embedding/embedding.ts";
export * as fill from "./fill/fill.ts";
export * as kvCache from "./kv-cache/kv-cache.ts";
export * as matmulHopper from "./matmul/hopper.ts";
export * as rmsNorm from "./rms-norm/rms-norm.ts";
export * as rope from "./rope/rope.ts";
export * as advance from "./sampling/advance.ts";
export * as sampling from "./sampling/sampling.ts";
export * as softmax from "./softmax/softmax.ts";
export * as topk from "./topk/topk.ts";
