import { type Opcode, opcodes, saturating, type ValueType, valueTypes, vectorOpcodes } from "./opcodes.ts";

const scratch = new DataView(new ArrayBuffer(8));

/** The body of one WebAssembly function as it is written: instructions in order, locals as they are asked for. */
export class Code {
  readonly parameters: readonly ValueType[];
  readonly result: ValueType | undefined;
  readonly bytes: number[] = [];
  readonly locals: ValueType[] = [];
  /** Free temporaries by type. */
  readonly #free: Record<ValueType, number[]> = { i32: [], i64: [], f32: [], f64: [], v128: [] };

  constructor(parameters: readonly ValueType[], result?: ValueType) {
    this.parameters = parameters;
    this.result = result;
  }

  local(type: ValueType): number {
    this.locals.push(type);
    return this.parameters.length + this.locals.length - 1;
  }

  /** Runs `use` with a local that is free again afterwards. */
  temp<T>(type: ValueType, use: (local: number) => T): T {
    const local = this.#free[type].pop() ?? this.local(type);
    const result = use(local);
    this.#free[type].push(local);
    return result;
  }

  op(...names: Opcode[]): this {
    for (const name of names) this.bytes.push(opcodes[name]);
    return this;
  }

  saturate(name: keyof typeof saturating): this {
    this.bytes.push(0xfc, saturating[name]);
    return this;
  }

  /** A vector operation; loads, stores and lane operations take their offset or lane as `immediates`. */
  vector(name: keyof typeof vectorOpcodes, ...immediates: readonly number[]): this {
    this.bytes.push(0xfd);
    this.index(vectorOpcodes[name]);
    if (name.startsWith("v128_load") || name.startsWith("v128_store")) this.bytes.push(0);
    for (const immediate of immediates) this.index(immediate);
    return this;
  }

  i32(value: number): this {
    this.bytes.push(opcodes.i32_const);
    signed(this.bytes, BigInt(value | 0));
    return this;
  }

  i64(value: bigint): this {
    this.bytes.push(opcodes.i64_const);
    signed(this.bytes, BigInt.asIntN(64, value));
    return this;
  }

  /** By bits, so that a NaN keeps its payload. */
  f32(bits: bigint): this {
    scratch.setUint32(0, Number(BigInt.asUintN(32, bits)), true);
    this.bytes.push(opcodes.f32_const);
    for (let i = 0; i < 4; i++) this.bytes.push(scratch.getUint8(i));
    return this;
  }

  f64(bits: bigint): this {
    scratch.setBigUint64(0, BigInt.asUintN(64, bits), true);
    this.bytes.push(opcodes.f64_const);
    for (let i = 0; i < 8; i++) this.bytes.push(scratch.getUint8(i));
    return this;
  }

  f64Value(value: number): this {
    scratch.setFloat64(0, value);
    return this.f64(scratch.getBigUint64(0));
  }

  get(local: number): this {
    this.bytes.push(opcodes.local_get);
    return this.index(local);
  }

  set(local: number): this {
    this.bytes.push(opcodes.local_set);
    return this.index(local);
  }

  tee(local: number): this {
    this.bytes.push(opcodes.local_tee);
    return this.index(local);
  }

  /** The module's one global: where the executor's part of memory begins. */
  base(): this {
    this.bytes.push(opcodes.global_get);
    return this.index(0);
  }

  call(fn: number): this {
    this.bytes.push(opcodes.call);
    return this.index(fn);
  }

  /** A load or a store at the address on the stack plus `offset`. */
  memory(name: Opcode, offset = 0): this {
    this.bytes.push(opcodes[name], 0);
    return this.index(offset);
  }

  block(name: "block" | "loop" | "if", result?: ValueType): this {
    this.bytes.push(opcodes[name], result === undefined ? 0x40 : valueTypes[result]);
    return this;
  }

  else(): this {
    return this.op("else");
  }

  end(): this {
    return this.op("end");
  }

  br(depth: number): this {
    this.bytes.push(opcodes.br);
    return this.index(depth);
  }

  brIf(depth: number): this {
    this.bytes.push(opcodes.br_if);
    return this.index(depth);
  }

  brTable(depths: readonly number[], otherwise: number): this {
    this.bytes.push(opcodes.br_table);
    this.index(depths.length);
    for (const depth of depths) this.index(depth);
    return this.index(otherwise);
  }

  index(value: number): this {
    unsigned(this.bytes, value);
    return this;
  }
}

export function unsigned(bytes: number[], value: number): void {
  let rest = value;
  while (rest > 127) {
    bytes.push((rest % 128) | 128);
    rest = Math.floor(rest / 128);
  }
  bytes.push(rest);
}

function signed(bytes: number[], value: bigint): void {
  // Most constants are small; BigInt only where numbers do not reach.
  if (value >= -0x40000000n && value < 0x40000000n) {
    let rest = Number(value);
    for (;;) {
      const low = rest & 127;
      rest >>= 7;
      if ((rest === 0 && (low & 64) === 0) || (rest === -1 && (low & 64) !== 0)) {
        bytes.push(low);
        return;
      }
      bytes.push(low | 128);
    }
  }
  let rest = value;
  for (;;) {
    const low = Number(rest & 127n);
    rest >>= 7n;
    if ((rest === 0n && (low & 64) === 0) || (rest === -1n && (low & 64) !== 0)) {
      bytes.push(low);
      return;
    }
    bytes.push(low | 128);
  }
}
