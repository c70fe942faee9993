import { memoryMap } from "../memory-map.ts";
import type { Instruction, Operand } from "../ptx/ast.ts";
import { ptxType } from "../ptx/types.ts";
import type { Code } from "../wasm/code.ts";
import type { ValueType } from "../wasm/opcodes.ts";
import { type MatrixProduct, matrixProductOf } from "./matrix-product.ts";
import type { Homes } from "./region-code.ts";

/** Locals of the warp's function; `scratch` are those that collective instructions share. */
export interface WarpLocals {
  readonly warp: number;
  readonly scratch: Map<string, number>;
}

/** Code for a collective instruction when all 32 lanes take part. `exit` is the depth of the way out to JavaScript. */
export interface CollectiveWriter {
  /** The home of the register that says which lanes take part; undefined when the text says all. */
  readonly mask: number | undefined;
  run(c: Code, locals: WarpLocals, exit: number): void;
}

interface Registers {
  readonly instruction: Instruction;
  readonly homes: Homes;
  readonly matrixFunction: (product: MatrixProduct) => number;
}

/** The code writer of a collective instruction; undefined for what is rare, which JavaScript does. */
export function collectiveWriter(of: Registers): CollectiveWriter | undefined {
  const { instruction, homes } = of;
  const { name, modifiers, operands } = instruction;
  if (name === "mma") return matrixProduct(of);
  if (name === "ldmatrix") return loadMatrices(of);
  const isWarpBarrier = (name === "bar" || name === "barrier") && modifiers.includes("warp");
  if (!isWarpBarrier && name !== "shfl" && name !== "vote") return undefined;
  const member = operands.at(-1);
  let mask: number | undefined;
  if (member?.kind === "register") mask = homes.get(member.register.index);
  else if (member?.kind !== "integer" || BigInt.asUintN(32, member.value) !== 0xffffffffn) return undefined;
  if (member.kind === "register" && mask === undefined) return undefined;
  if (isWarpBarrier) return { mask, run: () => {} };
  const run = name === "shfl" ? shuffle(of) : vote(of);
  return run && { mask, run };
}

/** Leaves for JavaScript where not all lanes are to take part; the first lane's register speaks for all. */
export function writeMaskCheck(c: Code, { mask }: CollectiveWriter, { warp }: WarpLocals, exit: number): void {
  if (mask !== undefined) c.get(warp).memory("i32_load", mask).i32(-1).op("i32_ne").brIf(exit);
}

function scratch(c: Code, locals: WarpLocals, name: string, type: ValueType): number {
  const key = `${name}:${type}`;
  const known = locals.scratch.get(key);
  if (known !== undefined) return known;
  const made = c.local(type);
  locals.scratch.set(key, made);
  return made;
}

/** The home of a 32-bit register that is not negated. */
function plainHome(operand: Operand | undefined, homes: Homes): number | undefined {
  if (operand?.kind !== "register" || operand.negated) return undefined;
  if (ptxType(operand.register.type)?.bytes !== 4) return undefined;
  return homes.get(operand.register.index);
}

function constant(operand: Operand | undefined): number | undefined {
  return operand?.kind === "integer" ? Number(BigInt.asIntN(32, operand.value)) : undefined;
}

/** shfl.sync over whole warps (its clamp operand says so) by a distance that the text gives: a fixed permutation. */
function shuffle({ instruction, homes }: Registers): CollectiveWriter["run"] | undefined {
  const { operands, modifiers } = instruction;
  const to = operands[0];
  const [value, predicate] = to?.kind === "pair" ? [to.first, to.second] : [to, undefined];
  const [target, source] = [plainHome(value, homes), plainHome(operands[1], homes)];
  const flag = predicate?.kind === "register" ? homes.get(predicate.register.index) : undefined;
  const [distance, clamp] = [constant(operands[2]), constant(operands[3])];
  const mode = (["up", "down", "bfly", "idx"] as const).find((m) => modifiers.includes(m));
  if (target === undefined || source === undefined || clamp === undefined || !mode) return undefined;
  if (predicate !== undefined && predicate.kind !== "sink" && flag === undefined) return undefined;
  const segment = (clamp >>> 8) & 31;
  const last = (lane: number) => (lane & segment) | (clamp & 31 & ~segment);
  if (distance === undefined) {
    const lanes = plainHome(operands[2], homes);
    const whole = segment === 0 && (clamp & 31) === 31;
    if ((mode !== "idx" && mode !== "bfly") || !whole || lanes === undefined) return undefined;
    return gatherLanes({ target, source, lanes, flag, isExchange: mode === "bfly" });
  }
  const b = distance & 31;
  const origins = Array.from({ length: 32 }, (_, lane) => {
    const from = {
      up: lane - b,
      down: lane + b,
      bfly: lane ^ b,
      idx: (lane & segment) | (b & ~segment),
    }[mode];
    const valid = mode === "up" ? from >= last(lane) : from <= last(lane);
    return { from: valid ? from : lane, valid };
  });
  return (c, locals) => {
    const { warp } = locals;
    permute(
      c,
      locals,
      target,
      source,
      origins.map(({ from }) => from),
    );
    if (flag === undefined) return;
    origins.forEach(({ valid }, lane) => {
      c.get(warp)
        .i32(valid ? 1 : 0)
        .memory("i32_store", flag + 4 * lane);
    });
  };
}

/** Moves 32 values so that lane i gets that of lane `from[i]`: four lanes at once from one or two vectors. */
function permute(c: Code, locals: WarpLocals, target: number, source: number, from: readonly number[]): void {
  const { warp } = locals;
  const vectors = Array.from({ length: 8 }, (_, v) => scratch(c, locals, `v${v}`, "v128"));
  const groups = Array.from({ length: 8 }, (_, v) => {
    const lanes = from.slice(4 * v, 4 * v + 4);
    return { lanes, needed: [...new Set(lanes.map((lane) => lane >>> 2))] };
  });
  const isSimple = groups.every(({ needed }) => needed.length <= 2);
  if (isSimple) {
    vectors.forEach((local, v) => {
      c.get(warp)
        .vector("v128_load", source + 16 * v)
        .set(local);
    });
    groups.forEach(({ lanes, needed }, v) => {
      const [first = 0, second = first] = needed;
      const bytes = lanes.flatMap((lane) => {
        const begin = 4 * (lane & 3) + (lane >>> 2 === first ? 0 : 16);
        return [begin, begin + 1, begin + 2, begin + 3];
      });
      c.get(warp)
        .get(vectors[first]!)
        .get(vectors[second]!)
        .vector("i8x16_shuffle", ...bytes);
      c.vector("v128_store", target + 16 * v);
    });
    return;
  }
  saveValues(c, locals, source);
  from.forEach((lane, i) => {
    c.get(warp)
      .base()
      .memory("i32_load", memoryMap.shuffle + 4 * lane);
    c.memory("i32_store", target + 4 * i);
  });
}

/** Copies a register's 32 values to where shuffles keep them: the target may be the same register. */
function saveValues(c: Code, { warp }: WarpLocals, source: number): void {
  for (let v = 0; v < 8; v++) {
    c.base()
      .get(warp)
      .vector("v128_load", source + 16 * v);
    c.vector("v128_store", memoryMap.shuffle + 16 * v);
  }
}

/** shfl.idx from lanes that registers name, or shfl.bfly (`isExchange`) by distances that they name. */
function gatherLanes(homes: {
  target: number;
  source: number;
  lanes: number;
  flag: number | undefined;
  isExchange: boolean;
}): CollectiveWriter["run"] {
  const { target, source, lanes, flag, isExchange } = homes;
  return (c, locals) => {
    const at = scratch(c, locals, "at", "i32");
    const end = scratch(c, locals, "end", "i32");
    saveValues(c, locals, source);
    c.get(locals.warp).tee(at).i32(128).op("i32_add").set(end).block("loop");
    c.get(at).base().get(at).memory("i32_load", lanes).i32(31).op("i32_and").i32(2).op("i32_shl");
    if (isExchange) c.get(at).get(locals.warp).op("i32_sub", "i32_xor");
    c.op("i32_add").memory("i32_load", memoryMap.shuffle).memory("i32_store", target);
    if (flag !== undefined) c.get(at).i32(1).memory("i32_store", flag);
    c.get(at).i32(4).op("i32_add").tee(at).get(end).op("i32_lt_u").brIf(0).end();
  };
}

function vote({ instruction, homes }: Registers): CollectiveWriter["run"] | undefined {
  const { operands, modifiers } = instruction;
  const [to, from] = operands;
  if (to?.kind !== "register" || from?.kind !== "register") return undefined;
  const [target, source] = [homes.get(to.register.index), homes.get(from.register.index)];
  const mode = (["all", "any", "ballot"] as const).find((m) => modifiers.includes(m));
  if (target === undefined || source === undefined || !mode) return undefined;
  return (c, locals) => {
    const { warp } = locals;
    const ballot = scratch(c, locals, "ballot", "i32");
    for (let v = 0; v < 8; v++) {
      c.get(warp)
        .vector("v128_load", source + 16 * v)
        .i32(0)
        .vector("i32x4_splat")
        .vector(from.negated ? "i32x4_eq" : "i32x4_ne")
        .vector("i32x4_bitmask")
        .i32(4 * v)
        .op("i32_shl");
      if (v > 0) c.op("i32_or");
    }
    if (mode === "all") c.i32(-1).op("i32_eq");
    if (mode === "any") c.i32(0).op("i32_ne");
    c.set(ballot);
    for (let v = 0; v < 8; v++) {
      c.get(warp)
        .get(ballot)
        .vector("i32x4_splat")
        .vector("v128_store", target + 16 * v);
    }
  };
}

function matrixProduct({ instruction, homes, matrixFunction }: Registers): CollectiveWriter | undefined {
  const product = matrixProductOf(instruction);
  if (!product) return undefined;
  const addresses = [1, 2, 3, 0].flatMap((i) => {
    const operand = instruction.operands[i];
    if (operand?.kind !== "vector") return [];
    return operand.items.map((item) => (item.kind === "register" ? homes.get(item.register.index) : undefined));
  });
  if (addresses.includes(undefined)) return undefined;
  return {
    mask: undefined,
    run: (c, { warp }) => {
      for (const home of addresses) c.get(warp).i32(home!).op("i32_add");
      c.call(matrixFunction(product));
    },
  };
}

/**
 * ldmatrix: a row of eight 16-bit elements is what four lanes hold. JavaScript reports rows that are misaligned or outside
 * of shared memory.
 */
function loadMatrices({ instruction, homes }: Registers): CollectiveWriter | undefined {
  const { operands, modifiers } = instruction;
  const [to, address] = operands;
  if (!modifiers.includes("m8n8") || !modifiers.includes("b16") || address?.kind !== "address") return undefined;
  const items = to?.kind === "vector" ? to.items : [to];
  const targets = items.map((item) => plainHome(item, homes));
  const { base, offset } = address;
  if (!base || !("register" in base) || targets.includes(undefined)) return undefined;
  const rows = homes.get(base.register.index);
  if (rows === undefined) return undefined;
  const stride = ptxType(base.register.type)?.bytes === 8 ? 8 : 4;
  const transposed = modifiers.includes("trans");
  const count = 8 * targets.length;

  return {
    mask: undefined,
    run: (c, locals, exit) => {
      const { warp } = locals;
      const bad = scratch(c, locals, "bad", "i32");
      const limit = scratch(c, locals, "limit", "i32");
      const row = (i: number) => {
        c.get(warp).memory("i32_load", rows + stride * i);
        if (offset !== 0) c.i32(offset).op("i32_add");
      };
      c.base().memory("i32_load", memoryMap.sharedBytes).i32(4).op("i32_shr_u").set(limit);
      for (let i = 0; i < count; i++) {
        row(i);
        c.i32(4).op("i32_rotr").get(limit).op("i32_ge_u");
        if (i > 0) c.op("i32_or");
      }
      c.tee(bad).brIf(exit);
      const vectors = Array.from({ length: 8 }, (_, v) => scratch(c, locals, `v${v}`, "v128"));
      // Every row is read before a register is written: the addresses may be in one of them.
      const matrices = targets.map((_, m) => vectors.map((__, r) => scratch(c, locals, `m${m}r${r}`, "v128")));
      matrices.forEach((matrix, m) => {
        matrix.forEach((local, r) => {
          row(8 * m + r);
          c.base().op("i32_add").vector("v128_load", memoryMap.shared).set(local);
        });
      });
      matrices.forEach((matrix, m) => {
        if (transposed) transpose(c, matrix);
        matrix.forEach((local, r) => {
          c.get(warp)
            .get(local)
            .vector("v128_store", targets[m]! + 16 * r);
        });
      });
    },
  };
}

/** Of eight vectors of eight 16-bit elements, in three rounds of interleaving: row r and row r + 4 each time. */
function transpose(c: Code, rows: readonly number[]): void {
  const low = [0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23];
  const high = low.map((byte) => byte + 8);
  for (let round = 0; round < 3; round++) {
    for (let r = 0; r < 4; r++) {
      for (const bytes of [low, high]) {
        c.get(rows[r]!)
          .get(rows[r + 4]!)
          .vector("i8x16_shuffle", ...bytes);
      }
    }
    // The results lie on the stack, the last on top: 2r and 2r + 1 come from r and r + 4.
    for (let r = 7; r >= 0; r--) c.set(rows[r]!);
  }
}
