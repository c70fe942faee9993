import { FormatError, UnsupportedError } from "../../base/errors.ts";
import { describeJson } from "../json.ts";
import type { Family, LayerType } from "./families.ts";
import { count, type FieldSource, flag, nonNegativeInteger, readField, requireField, texts } from "./fields.ts";

/**
 * Which layers see a window only, and how long that is. `use_sliding_window: false` (Qwen) and a null window switch it
 * off. Throws FormatError when `layer_types` does not fit the layers, UnsupportedError for a type that is not known.
 */
export function readSlidingLayers(
  source: FieldSource,
  family: Family,
  layers: number,
  maxPositions: number,
): { layerTypes: readonly LayerType[]; slidingWindow: number | undefined } {
  const named = family.namesLayerTypes ? readLayerTypes(source, layers) : undefined;
  if (!family.slides || isSwitchedOff(source)) {
    if (named?.includes("sliding_attention")) {
      throw new FormatError(
        source.file,
        `${source.file}: ${source.prefix}layer_types has layers of type "sliding_attention", but sliding_window or use_sliding_window switches them off`,
      );
    }
    return { layerTypes: new Array(layers).fill("full_attention"), slidingWindow: undefined };
  }
  const layerTypes = named ?? pattern(source, family.slides, layers);
  const slides = layerTypes.includes("sliding_attention");
  // A window that no sequence outgrows is none: Phi-3's long models have one of twice their context.
  const window = requireField(source, "sliding_window", nonNegativeInteger);
  return { layerTypes, slidingWindow: slides && window < maxPositions ? window : undefined };
}

/** Some configs write 0 for "none". */
function isSwitchedOff(source: FieldSource): boolean {
  return (
    !readField(source, "use_sliding_window", flag, true) ||
    readField(source, "sliding_window", nonNegativeInteger, 0) === 0
  );
}

function pattern(source: FieldSource, slides: NonNullable<Family["slides"]>, layers: number): LayerType[] {
  const maxWindowLayers = readField(source, "max_window_layers", nonNegativeInteger, layers);
  const period = readPeriod(source);
  return Array.from({ length: layers }, (_, layer) =>
    slides(layer, { maxWindowLayers, period }) ? "sliding_attention" : "full_attention",
  );
}

/** transformers has written it with an underscore since it also writes `layer_types`. */
function readPeriod(source: FieldSource): number {
  const wrote = readField(source, "_sliding_window_pattern", count, undefined);
  return wrote ?? readField(source, "sliding_window_pattern", count, 1);
}

const known: readonly string[] = ["full_attention", "sliding_attention"] satisfies LayerType[];

function readLayerTypes(source: FieldSource, layers: number): LayerType[] | undefined {
  const types = readField(source, "layer_types", texts, undefined);
  if (!types) return undefined;
  const place = `${source.file}: ${source.prefix}layer_types`;
  const unknown = types.find((type) => !known.includes(type));
  if (unknown !== undefined) {
    throw new UnsupportedError(`${place} names ${describeJson(unknown)}; supported are ${known.join(" and ")}`);
  }
  if (types.length !== layers) {
    throw new FormatError(
      source.file,
      `${place} names ${types.length} layers; expected as many as num_hidden_layers, ${layers}`,
    );
  }
  return types as LayerType[];
}
