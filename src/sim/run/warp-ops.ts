import type { CollectiveRun, OperandReader } from "./operands.ts";
import type { LinearMemory } from "./views.ts";

const snapshot = new Int32Array(32);

/** shfl.sync: each lane reads another's value. Lanes that do not take part give what their register last held. */
function shuffle(o: OperandReader): CollectiveRun {
  const to = o.at(0);
  const [value, predicate] = to.kind === "pair" ? [to.first, to.second] : [to, undefined];
  const [target = -1] = o.homesOf(value);
  const [flag = -1] = predicate ? o.homesOf(predicate) : [];
  const read = o.reader(o.at(1));
  const distance = o.reader(o.at(2));
  const clamp = o.reader(o.at(3));
  const mode = (["up", "down", "bfly", "idx"] as const).find((m) => o.has(m)) ?? o.unsupported();
  return (memory, warp, lanes) => {
    for (let lane = 0; lane < 32; lane++) snapshot[lane] = read(memory, warp, lane);
    const { i32 } = memory;
    for (let lane = 0; lane < 32; lane++) {
      if (((lanes >>> lane) & 1) === 0) continue;
      const b = distance(memory, warp, lane) & 31;
      const c = clamp(memory, warp, lane);
      const segment = (c >>> 8) & 31;
      const last = (lane & segment) | (c & 31 & ~segment);
      let from: number;
      let valid: boolean;
      if (mode === "up") {
        from = lane - b;
        valid = from >= last;
      } else {
        from = mode === "down" ? lane + b : mode === "bfly" ? lane ^ b : (lane & segment) | (b & ~segment);
        valid = from <= last;
      }
      if (target >= 0) i32[((warp + target) >>> 2) + lane] = snapshot[valid ? from : lane]!;
      if (flag >= 0) i32[((warp + flag) >>> 2) + lane] = valid ? 1 : 0;
    }
  };
}

/** Writes one 32-bit value to a register of every lane that takes part. */
function spread(memory: LinearMemory, warp: number, home: number, lanes: number, value: number): void {
  const base = (warp + home) >>> 2;
  for (let lane = 0; lane < 32; lane++) if ((lanes >>> lane) & 1) memory.i32[base + lane] = value;
}

function vote(o: OperandReader): CollectiveRun {
  const [target = -1] = o.homesOf(o.at(0));
  const read = o.reader(o.at(1));
  const mode = (["all", "any", "uni", "ballot"] as const).find((m) => o.has(m)) ?? o.unsupported();
  return (memory, warp, lanes) => {
    let ballot = 0;
    for (let lane = 0; lane < 32; lane++) {
      if ((lanes >>> lane) & 1 && read(memory, warp, lane) !== 0) ballot |= 1 << lane;
    }
    const all = ballot === lanes;
    const result = { ballot, all: +all, any: +(ballot !== 0), uni: +(all || ballot === 0) }[mode];
    if (target >= 0) spread(memory, warp, target, lanes, result);
  };
}

function match(o: OperandReader): CollectiveRun {
  const to = o.at(0);
  const [value, predicate] = to.kind === "pair" ? [to.first, to.second] : [to, undefined];
  const [target = -1] = o.homesOf(value);
  const [flag = -1] = predicate ? o.homesOf(predicate) : [];
  const source = o.place(o.at(1));
  const key = (memory: LinearMemory, warp: number, lane: number): bigint => {
    if ("value" in source) return BigInt(source.value);
    if (source.wide) return memory.u64[(warp + source.home + 8 * lane) >>> 3]!;
    return BigInt(memory.u32[((warp + source.home) >>> 2) + lane]!);
  };
  const all = o.has("all");
  return (memory, warp, lanes) => {
    const keys = new Map<bigint, number>();
    for (let lane = 0; lane < 32; lane++) {
      if (((lanes >>> lane) & 1) === 0) continue;
      const k = key(memory, warp, lane);
      keys.set(k, (keys.get(k) ?? 0) | (1 << lane));
    }
    for (const mask of keys.values()) {
      const same = keys.size === 1;
      spread(memory, warp, target, mask, all ? (same ? lanes : 0) : mask);
      if (flag >= 0) spread(memory, warp, flag, mask, same ? 1 : 0);
    }
  };
}

const reductions: Record<string, (a: number, b: number, signed: boolean) => number> = {
  add: (a, b) => (a + b) | 0,
  and: (a, b) => a & b,
  or: (a, b) => a | b,
  xor: (a, b) => a ^ b,
  min: (a, b, signed) => ((signed ? a < b : a >>> 0 < b >>> 0) ? a : b),
  max: (a, b, signed) => ((signed ? a > b : a >>> 0 > b >>> 0) ? a : b),
};

function reduce(o: OperandReader): CollectiveRun {
  const name = Object.keys(reductions).find((r) => o.has(r));
  if (!name || o.has("f32")) o.unsupported();
  const combine = reductions[name]!;
  const signed = o.has("s32");
  const [target = -1] = o.homesOf(o.at(0));
  const read = o.reader(o.at(1));
  return (memory, warp, lanes) => {
    let result: number | undefined;
    for (let lane = 0; lane < 32; lane++) {
      if (((lanes >>> lane) & 1) === 0) continue;
      const value = read(memory, warp, lane);
      result = result === undefined ? value : combine(result, value, signed);
    }
    spread(memory, warp, target, lanes, result ?? 0);
  };
}

function activeMask(o: OperandReader): CollectiveRun {
  const [target = -1] = o.homesOf(o.at(0));
  return (memory, warp, lanes) => spread(memory, warp, target, lanes, lanes);
}

export const warpOps: Readonly<Record<string, (o: OperandReader) => CollectiveRun>> = {
  shfl: shuffle,
  vote,
  match,
  redux: reduce,
  activemask: activeMask,
};
