/** The public API. */
import { registerSim } from "./sim/register.ts";

export { type DType, type DTypeLike, type DTypeName, dtype, promote } from "./base/dtype.ts";
export * from "./base/errors.ts";
export type { Shape } from "./base/shape.ts";
export { Device } from "./driver/device.ts";
export { Event } from "./driver/event.ts";
export { ExecutableGraph, Graph } from "./driver/graph.ts";
export type { DeviceBuffer, MemoryPool, MemoryStatistics } from "./driver/memory.ts";
export { KernelFunction, Module as PtxModule } from "./driver/module.ts";
export { type DeviceListing, listDevices, openDevice } from "./driver/open.ts";
export { PinnedBuffer } from "./driver/pinned.ts";
export { Stream } from "./driver/stream.ts";
export { cacheFootprint, type GroupFootprint } from "./engine/cache-plan.ts";
export { type CompareOptions, compareModels } from "./engine/compare-models.ts";
export { type Divergence, DivergenceMeter, klDivergence } from "./engine/divergence.ts";
export type { AdapterChoice, GenerateOptions } from "./engine/generate-options.ts";
export {
  AutoModelForCausalLM,
  type FromPretrainedOptions,
  type GenerationChunk,
  LanguageModel,
  type Prompt,
  type SaveGgufOptions,
  type SavePretrainedOptions,
} from "./engine/language-model.ts";
export {
  measurePerplexity,
  type Perplexity,
  PerplexityMeter,
  type PerplexityOptions,
  type TextPerplexity,
} from "./engine/perplexity.ts";
export type { FinishReason } from "./engine/request.ts";
export type { SamplingOptions } from "./engine/sampling.ts";
export type { GenerationResult } from "./engine/text-assembly.ts";
export { type Verification, verifyCheckpoint, verifyModel } from "./engine/verify.ts";
export type { ExpertChoices } from "./engine/verify-experts.ts";
export type { ChatMessage } from "./formats/chat-template/chat-template.ts";
export type { ModelConfig } from "./formats/config/model-config.ts";
export type { ModelFiles } from "./formats/model-files/model-files.ts";
export { CustomKernel, type CustomKernelOptions } from "./kernels/custom.ts";
export type { KernelShape } from "./kernels/library.ts";
export type { ArgSpec, ArgType, ArgValues } from "./kernels/spec.ts";
export { AutoTokenizer, PretrainedTokenizer } from "./models/auto-tokenizer.ts";
export type { CheckpointFormat, GgufFormat } from "./models/export/formats.ts";
export type { ExportSummary, TypeShare } from "./models/export/summary.ts";
export type { CausalNetwork } from "./models/network.ts";
export { type CacheGroup, cacheGroups, visibleKvBytes } from "./nn/cache-groups.ts";
export { Embedding } from "./nn/embedding.ts";
export type { CachePages, ForwardContext } from "./nn/forward-context.ts";
export { KvCache, type KvCacheShape } from "./nn/kv-cache.ts";
export { Linear } from "./nn/linear.ts";
export type { LoadedAdapter } from "./nn/lora/adapter-set.ts";
export { Module } from "./nn/module.ts";
export { RMSNorm } from "./nn/rms-norm.ts";
export { RotaryEmbedding } from "./nn/rotary-embedding.ts";
export type { Counts } from "./sim/profile/counts.ts";
export type { InstructionProfile, KernelProfile, SourceLine } from "./sim/profile/kernel-profile.ts";
export { Profiler } from "./sim/profile/profiler.ts";
export type { RegisterValue, TracedAccess, TraceStep } from "./sim/trace/trace-step.ts";
export { type KernelTrace, type TraceOptions, Tracer } from "./sim/trace/tracer.ts";
export type { TensorOptions } from "./tensor/create.ts";
export { type HostInput, HostTensor } from "./tensor/host-tensor.ts";
export type { Nested } from "./tensor/nested.ts";
export { Tensor } from "./tensor/tensor.ts";
export { keep, tidy } from "./tensor/tidy.ts";

registerSim();
