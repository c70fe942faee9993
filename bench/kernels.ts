import { type DType, int32 } from "../src/base/dtype.ts";
import type { Device } from "../src/driver/device.ts";
import { gatedActivation } from "../src/kernels/activation/activation.ts";
import { argmax, argmaxWorkspaceBytes } from "../src/kernels/argmax/argmax.ts";
import { attentionWorkspaceBytes, pagedAttention } from "../src/kernels/attention/attention.ts";
import { binary } from "../src/kernels/elementwise/elementwise.ts";
import { embedding } from "../src/kernels/embedding/embedding.ts";
import { rmsNorm } from "../src/kernels/rms-norm/rms-norm.ts";
import { sample, samplingWorkspaceBytes } from "../src/kernels/sampling/sampling.ts";
import { softmax } from "../src/kernels/softmax/softmax.ts";
import { topk, topkWorkspaceBytes } from "../src/kernels/topk/topk.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { tidy } from "../src/tensor/tidy.ts";
import { defineBench } from "./support/bench.ts";
import { parseDtype } from "./support/product.ts";
import type { Row } from "./support/table.ts";
import { setsBeyondL2, timeRotating } from "./support/timing.ts";

/** An 8B model (Llama 3.1): C, F, V, H, G, D. */
const model = { c: 4096, f: 14336, v: 128_256, h: 32, g: 8, d: 128 } as const;

/** One measurement: what it must read and write at least, and a launch on the set of operands with this number. */
interface Case {
  readonly name: string;
  readonly shape: string;
  readonly bytes: number;
  readonly launch: (set: number) => void;
}

/**
 * The kernels around the matrix products, at the sizes that decoding (one row) and prefill (2048 rows) of an 8B model
 * give them: microseconds, and the bandwidth that the bytes they must move amount to.
 */
export const bench = defineBench({
  name: "kernels",
  options: { dtype: { help: "float32, float16 or bfloat16", default: "bfloat16" } },
  measure({ device, table }, options) {
    const dtype = parseDtype(options.dtype);
    const rows: Row[] = [];
    for (const make of cases) {
      tidy(() => {
        const { name, shape, bytes, launch } = make(device, dtype);
        const timing = timeRotating(device, setsBeyondL2(device, bytes), launch);
        rows.push({ kernel: name, shape, us: timing.medianUs, "TB/s": bytes / timing.medianUs / 1e6 });
      });
    }
    table(`kernels, ${dtype.name}, data from memory, medians of graph replays`, rows);
  },
});

type Make = (device: Device, dtype: DType) => Case;

/** As many tensors as sets, so that each launch finds its data in memory and not in L2. */
function rotate(device: Device, bytes: number, make: (seed: number) => Tensor): (set: number) => Tensor {
  const tensors = Array.from({ length: setsBeyondL2(device, bytes) }, (_, i) => make(i + 1));
  return (set) => tensors[set]!;
}

const norm =
  (rows: number): Make =>
  (device, dtype) => {
    const bytes = 2 * rows * model.c * dtype.bytes;
    const x = rotate(device, bytes, (seed) => Tensor.randn([rows, model.c], { dtype, device, seed }));
    const out = Tensor.empty([rows, model.c], { dtype, device });
    const weight = Tensor.randn([model.c], { dtype, device });
    const launch = (set: number) =>
      rmsNorm(device.stream, {
        out: out.ptr,
        x: x(set).ptr,
        weight: weight.ptr,
        rows,
        cols: model.c,
        eps: 1e-5,
        dtype,
      });
    return { name: "rms_norm", shape: `${rows} x ${model.c}`, bytes, launch };
  };

const gate: Make = (device, dtype) => {
  const rows = 2048;
  const bytes = 3 * rows * model.f * dtype.bytes;
  const x = rotate(device, bytes, (seed) => Tensor.randn([2, rows, model.f], { dtype, device, seed }));
  const out = Tensor.empty([rows, model.f], { dtype, device });
  const launch = (set: number) => {
    const [g, u] = [x(set).select(0, 0), x(set).select(0, 1)];
    gatedActivation(device.stream, {
      out: out.ptr,
      gate: g.ptr,
      up: u.ptr,
      activation: "silu",
      rows,
      cols: model.f,
      dtype,
    });
  };
  return { name: "silu_mul", shape: `${rows} x ${model.f}`, bytes, launch };
};

const lookup: Make = (device, dtype) => {
  const tokens = 2048;
  const bytes = 2 * tokens * model.c * dtype.bytes;
  const tableOfRows = Tensor.randn([model.v, model.c], { dtype, device });
  const ids = rotate(device, bytes, (seed) =>
    Tensor.from(
      Int32Array.from({ length: tokens }, (_, i) => ((i + seed * tokens) * 7919) % model.v),
      { dtype: int32, device },
    ),
  );
  const out = Tensor.empty([tokens, model.c], { dtype, device });
  const launch = (set: number) =>
    embedding(device.stream, {
      out: out.ptr,
      table: tableOfRows.ptr,
      ids: ids(set).ptr,
      tokens,
      cols: model.c,
      vocab: model.v,
      dtype,
    });
  return { name: "embedding", shape: `${tokens} x ${model.c}`, bytes, launch };
};

const probabilities =
  (rows: number, cols: number): Make =>
  (device, dtype) => {
    const bytes = 2 * rows * cols * dtype.bytes;
    const x = rotate(device, bytes, (seed) => Tensor.randn([rows, cols], { dtype, device, seed }));
    const out = Tensor.empty([rows, cols], { dtype, device });
    const launch = (set: number) => softmax(device.stream, { out: out.ptr, x: x(set).ptr, rows, cols, dtype });
    return { name: "softmax", shape: `${rows} x ${cols}`, bytes, launch };
  };

const largest: Make = (device, dtype) => {
  const bytes = model.v * dtype.bytes;
  const x = rotate(device, bytes, (seed) => Tensor.randn([1, model.v], { dtype, device, seed }));
  const out = Tensor.empty([1], { dtype: int32, device });
  const workspace = Tensor.empty([argmaxWorkspaceBytes(1, model.v)], { dtype: "uint8", device });
  const launch = (set: number) =>
    argmax(device.stream, { out: out.ptr, x: x(set).ptr, workspace: workspace.ptr, rows: 1, cols: model.v, dtype });
  return { name: "argmax", shape: `1 x ${model.v}`, bytes, launch };
};

const best =
  (k: number): Make =>
  (device, dtype) => {
    const bytes = model.v * dtype.bytes;
    const { multiprocessors } = device.attributes;
    const x = rotate(device, bytes, (seed) => Tensor.randn([1, model.v], { dtype, device, seed }));
    const values = Tensor.empty([k], { dtype, device });
    const indices = Tensor.empty([k], { dtype: int32, device });
    const workspace = Tensor.empty([topkWorkspaceBytes(1, model.v, k, multiprocessors)], { dtype: "uint8", device });
    const launch = (set: number) =>
      topk(device.stream, {
        values: values.ptr,
        indices: indices.ptr,
        workspace: workspace.ptr,
        x: x(set).ptr,
        rows: 1,
        cols: model.v,
        k,
        dtype,
      });
    return { name: `topk ${k}`, shape: `1 x ${model.v}`, bytes, launch };
  };

const draw =
  (rows: number, p: { temperature: number; topK: number; topP: number }): Make =>
  (device, dtype) => {
    const bytes = rows * model.v * dtype.bytes;
    const x = rotate(device, bytes, (seed) => Tensor.randn([rows, model.v], { dtype, device, seed }).mul_(3));
    const floats = (value: number) => Tensor.full([rows], value, { device });
    const [temperature, topP, minP] = [floats(p.temperature), floats(p.topP), floats(0)];
    const ints = (value: number) => Tensor.full([rows], value, { dtype: int32, device });
    const [topK, steps, tokens] = [ints(p.topK), ints(0), ints(0)];
    const seeds = Tensor.full([rows], 7n, { dtype: "int64", device });
    const workspace = Tensor.empty([samplingWorkspaceBytes(rows, model.v)], { dtype: "uint8", device });
    const launch = (set: number) =>
      sample(device.stream, {
        tokens: tokens.ptr,
        logits: x(set).ptr,
        rows,
        vocab: model.v,
        dtype,
        temperature: temperature.ptr,
        topK: topK.ptr,
        topP: topP.ptr,
        minP: minP.ptr,
        seeds: seeds.ptr,
        steps: steps.ptr,
        workspace: workspace.ptr,
        greedyOnly: p.temperature === 0,
      });
    const name = p.temperature === 0 ? "sample, greedy" : `sample, top-k ${p.topK}, top-p ${p.topP}`;
    return { name, shape: `${rows} x ${model.v}`, bytes, launch };
  };

/** Sequences of one context each, with one new token (decoding) or with all of it new (prefill). */
const attention =
  (sequences: number, context: number, isPrefill: boolean): Make =>
  (device, dtype) => {
    const { h, g, d } = model;
    const queries = isPrefill ? context : 1;
    const tokens = sequences * queries;
    const blocks = (sequences * context) / 16;
    const bytes = 2 * (sequences * context * g * d + tokens * h * d) * dtype.bytes;
    const cache = rotate(device, bytes, (seed) => Tensor.randn([2, blocks, g, 16, d], { dtype, device, seed }));
    const query = Tensor.randn([tokens, h, d], { dtype, device });
    const out = Tensor.empty([tokens, h, d], { dtype, device });
    const ints = (values: number[]) => Tensor.from(Int32Array.from(values), { device });
    const queryStarts = ints(Array.from({ length: sequences + 1 }, (_, i) => i * queries));
    const contextLengths = ints(new Array(sequences).fill(context));
    const blockTable = ints(Array.from({ length: blocks }, (_, i) => i));
    const shape = { sequences, maxQuery: queries, maxContext: context, heads: h, kvHeads: g, headDim: d };
    const workspace = Tensor.empty([attentionWorkspaceBytes(shape)], { dtype: "uint8", device });
    const launch = (set: number) => {
      const [keys, values] = [cache(set).select(0, 0), cache(set).select(0, 1)];
      pagedAttention(device.stream, {
        ...shape,
        out: out.ptr,
        query: query.ptr,
        queryStride: h * d,
        keyCache: keys.ptr,
        valueCache: values.ptr,
        queryStarts: queryStarts.ptr,
        contextLengths: contextLengths.ptr,
        blockTable: blockTable.ptr,
        maxBlocks: context / 16,
        scale: 1 / Math.sqrt(d),
        workspace: workspace.ptr,
        dtype,
      });
    };
    const name = isPrefill ? "attention, prefill" : "attention, decode";
    return { name, shape: `${sequences} x ${context}`, bytes, launch };
  };

const add: Make = (device, dtype) => {
  const count = 2 ** 25;
  const bytes = 3 * count * dtype.bytes;
  const x = rotate(device, bytes, (seed) => Tensor.randn([2, count], { dtype, device, seed }));
  const out = Tensor.empty([count], { dtype, device });
  const launch = (set: number) => {
    const [a, b] = [x(set).select(0, 0), x(set).select(0, 1)];
    const one = [1];
    binary(device.stream, {
      op: "add",
      out: out.ptr,
      a: a.ptr,
      b: b.ptr,
      shape: [count],
      aStrides: one,
      bStrides: one,
      dtype,
    });
  };
  return { name: "add", shape: `${count}`, bytes, launch };
};

const cases: readonly Make[] = [
  norm(1),
  norm(2048),
  gate,
  lookup,
  add,
  probabilities(1, model.v),
  probabilities(2048, model.c),
  largest,
  best(50),
  draw(1, { temperature: 0, topK: 0, topP: 1 }),
  draw(1, { temperature: 0.8, topK: 0, topP: 0.9 }),
  draw(1, { temperature: 0.8, topK: 50, topP: 1 }),
  draw(64, { temperature: 0.8, topK: 50, topP: 0.9 }),
  attention(1, 512, false),
  attention(1, 8192, false),
  attention(1, 32_768, false),
  attention(64, 1024, false),
  attention(1, 2048, true),
];
