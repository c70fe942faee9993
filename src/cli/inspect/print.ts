import { formatShape } from "../../base/shape.ts";
import { bold, formatBytes } from "../terminal.ts";
import type { Inspection, ModuleSummary } from "./inspection.ts";

const forms = {
  huggingface: "HuggingFace checkpoint",
  gguf: "GGUF model",
  adapter: "LoRA adapter",
  safetensors: "safetensors file",
} as const;

/** An inspection as text, ending with a line end. */
export function describeInspection(name: string, inspection: Inspection): string {
  const { form, architecture, parameters, weightBytes, refusal } = inspection;
  const lines = [
    `${bold(name)}: ${[forms[form], architecture, `${formatCount(parameters)} parameters`].filter(Boolean).join(", ")}`,
    ...modelLines(inspection),
    ...adapterLines(inspection),
    `weights     ${formatBytes(weightBytes)}: ${inspection.types.map((t) => `${t.type} ${formatBytes(t.bytes)}`).join(", ")}`,
    ...cacheLines(inspection),
    ...(refusal ? [`does not run: ${refusal}`] : []),
    "",
    ...moduleLines(inspection.modules),
  ];
  return `${lines.join("\n")}\n`;
}

function modelLines({ shape }: Inspection): string[] {
  if (!shape) return [];
  const { layers, hiddenSize, heads, kvHeads, headDim, vocabSize, contextLength } = shape;
  return [
    `shape       ${layers} layers of width ${hiddenSize}, ${heads} heads of ${headDim} (${kvHeads} for keys and values), vocabulary ${vocabSize}`,
    `context     ${contextLength} tokens`,
  ];
}

function adapterLines({ adapter }: Inspection): string[] {
  if (!adapter) return [];
  const { baseModel, ranks, scales, dora, replaced, targetModules } = adapter;
  const targets = typeof targetModules === "string" ? targetModules : targetModules.join(", ");
  return [
    `base        ${baseModel ?? "not named"}`,
    `targets     ${targets || "not named"}`,
    `rank        ${ranks.join(", ")}, scale ${scales.map((scale) => Number(scale.toPrecision(6))).join(", ")}${dora ? ", DoRA" : ""}`,
    ...(replaced.length > 0 ? [`whole       ${replaced.join(", ")}`] : []),
  ];
}

function cacheLines({ cache }: Inspection): string[] {
  if (!cache) return [];
  const { tokens, bytes, slidingBytes, slidingWindow, dtype } = cache;
  const sliding = slidingBytes
    ? `, ${formatBytes(slidingBytes)} of it in layers that see ${slidingWindow} tokens and need no more`
    : "";
  return [`cache       ${formatBytes(bytes)} for ${tokens} tokens in ${dtype}${sliding}`];
}

function moduleLines(modules: readonly ModuleSummary[]): string[] {
  const rows = modules.map(({ name, count, shapes, types, bytes }) => {
    const kinds = Object.entries(types);
    const type = kinds.length === 1 ? kinds[0]![0] : kinds.map(([kind, n]) => `${kind} × ${n}`).join(", ");
    const shown = shapes.slice(0, 3).map(formatShape).join(" ");
    return [name, `× ${count}`, shapes.length > 3 ? `${shown} …` : shown, formatBytes(bytes), type];
  });
  const widths = [0, 1, 2, 3].map((column) => Math.max(0, ...rows.map((row) => row[column]!.length)));
  return rows.map(([name, count, shape, bytes, type]) =>
    [
      name!.padEnd(widths[0]!),
      count!.padStart(widths[1]!),
      shape!.padEnd(widths[2]!),
      bytes!.padStart(widths[3]!),
      type!,
    ].join("  "),
  );
}

/** 2.6 million, 8.0 billion. */
function formatCount(count: number): string {
  if (count >= 1e9) return `${(count / 1e9).toFixed(1)} billion`;
  if (count >= 1e6) return `${(count / 1e6).toFixed(1)} million`;
  return count >= 1e4 ? `${(count / 1e3).toFixed(1)} thousand` : String(count);
}
