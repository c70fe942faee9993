import { type DType, float32 } from "../../src/base/dtype.ts";
import { ArgumentError } from "../../src/base/errors.ts";
import { type DevicePtr, ptrAdd } from "../../src/driver/api.ts";
import type { Device } from "../../src/driver/device.ts";
import { timeRotating } from "./timing.ts";

/** Two kernels that only benchmarks need, written in PTX that every GPU since sm_60 runs. */

/** A 32-bit mixing function (the finalizer of MurmurHash3): every bit of the index reaches every bit of the result. */
const mix = (r: string): string => `
  shr.u32 %t, ${r}, 16;  xor.b32 ${r}, ${r}, %t;  mul.lo.u32 ${r}, ${r}, 0x85ebca6b;
  shr.u32 %t, ${r}, 13;  xor.b32 ${r}, ${r}, %t;  mul.lo.u32 ${r}, ${r}, 0xc2b2ae35;
  shr.u32 %t, ${r}, 16;  xor.b32 ${r}, ${r}, %t;`;

/** The upper 24 bits as a float in [-1, 1), never 0: the lowest bit is set. */
const uniform = (r: string, f: string): string => `
  shr.u32 ${r}, ${r}, 8;  or.b32 ${r}, ${r}, 1;  sub.s32 ${r}, ${r}, 0x800000;
  cvt.rn.f32.s32 ${f}, ${r};  mul.f32 ${f}, ${f}, 0f34000000;`;

const header = ".version 6.0\n.target sm_60\n.address_size 64\n";

/** Word i of `out` (32 bits: one f32 or two 16-bit floats) from the hash of i and the seed. kind: 0 f32, 1 f16, 2 bf16, 3 bits. */
const fillRandom = `${header}
.visible .entry fill_random(.param .u64 out, .param .u64 words, .param .u32 seed, .param .u32 kind) {
  .reg .u64 %p, %n, %i, %s, %a;  .reg .u32 %x, %y, %t, %c, %k, %seed;  .reg .f32 %f, %g;  .reg .b16 %h, %l;  .reg .pred %q;
  ld.param.u64 %p, [out];  ld.param.u64 %n, [words];  ld.param.u32 %seed, [seed];  ld.param.u32 %k, [kind];
  mov.u32 %x, %ctaid.x;  mov.u32 %y, %ntid.x;  mov.u32 %t, %tid.x;  mad.lo.u32 %x, %x, %y, %t;  cvt.u64.u32 %i, %x;
  mov.u32 %x, %nctaid.x;  mul.lo.u32 %x, %x, %y;  cvt.u64.u32 %s, %x;
NEXT:
  setp.ge.u64 %q, %i, %n;
  @%q bra DONE;
  cvt.u32.u64 %c, %i;  shr.u64 %a, %i, 32;  cvt.u32.u64 %t, %a;  mad.lo.u32 %c, %t, 0x9e3779b9, %c;
  add.u32 %x, %c, %seed;${mix("%x")}
  // bits: of each 16 one is cleared, the upper one of a float16's exponent.
  and.b32 %c, %x, 0xbfffbfff;
  setp.eq.u32 %q, %k, 3;
  @%q bra STORE;
  xor.b32 %y, %x, 0x5bd1e995;${mix("%y")}${uniform("%x", "%f")}${uniform("%y", "%g")}
  mov.b32 %c, %f;
  setp.eq.u32 %q, %k, 0;
  @%q bra STORE;
  setp.eq.u32 %q, %k, 1;
  @%q bra HALF;
  // bf16: the upper half of each float32.
  mov.b32 %y, %g;  and.b32 %y, %y, 0xffff0000;  shr.u32 %c, %c, 16;  or.b32 %c, %c, %y;
  bra STORE;
HALF:
  cvt.rn.f16.f32 %l, %f;  cvt.rn.f16.f32 %h, %g;  mov.b32 %c, {%l, %h};
STORE:
  shl.b64 %a, %i, 2;  add.u64 %a, %a, %p;  st.global.u32 [%a], %c;
  add.u64 %i, %i, %s;
  bra NEXT;
DONE:
  ret;
}
`;

/** Reads `vectors` times 16 bytes, four loads in flight a thread, and keeps nothing (the store practically never happens). */
const readMemory = `${header}
.visible .entry read_memory(.param .u64 out, .param .u64 from, .param .u64 vectors) {
  .reg .u64 %p, %o, %n, %i, %s, %a, %b, %d, %e, %w;  .reg .u32 %x, %y, %t, %sum;  .reg .u32 %v<16>;  .reg .pred %q;
  ld.param.u64 %o, [out];  ld.param.u64 %p, [from];  ld.param.u64 %n, [vectors];
  mov.u32 %x, %ctaid.x;  mov.u32 %y, %ntid.x;  mov.u32 %t, %tid.x;  mad.lo.u32 %x, %x, %y, %t;  cvt.u64.u32 %i, %x;
  mov.u32 %x, %nctaid.x;  mul.lo.u32 %x, %x, %y;  cvt.u64.u32 %s, %x;
  shl.b64 %w, %s, 4;  mov.u32 %sum, 0;
NEXT:
  mad.lo.u64 %a, %s, 3, %i;
  setp.ge.u64 %q, %a, %n;
  @%q bra DONE;
  shl.b64 %a, %i, 4;  add.u64 %a, %a, %p;  add.u64 %b, %a, %w;  add.u64 %d, %b, %w;  add.u64 %e, %d, %w;
  ld.global.v4.u32 {%v0, %v1, %v2, %v3}, [%a];
  ld.global.v4.u32 {%v4, %v5, %v6, %v7}, [%b];
  ld.global.v4.u32 {%v8, %v9, %v10, %v11}, [%d];
  ld.global.v4.u32 {%v12, %v13, %v14, %v15}, [%e];
  ${Array.from({ length: 16 }, (_, i) => `add.u32 %sum, %sum, %v${i};`).join("  ")}
  shl.b64 %a, %s, 2;  add.u64 %i, %i, %a;
  bra NEXT;
DONE:
  setp.ne.u32 %q, %sum, 0x9e3779b9;
  @%q bra END;
  st.global.u32 [%o], %sum;
END:
  ret;
}
`;

/** Loads a probe and returns its launcher: `pack` writes the arguments. */
function probe(device: Device, name: string, ptx: string, argBytes: number) {
  const fn = device.loadModule(new TextEncoder().encode(ptx), name).getFunction(name);
  const block = device.api.scratch(64);
  const view = new DataView(block.buffer);
  const grid = [device.attributes.multiprocessors * 8, 1, 1] as const;
  return (pack: (args: DataView) => void): void => {
    pack(view);
    fn.launch(device.stream, { grid, block: [256, 1, 1], sharedBytes: 0 }, block, argBytes);
  };
}

export interface Probes {
  /** Uniform values in [-1, 1), none of them zero, made on the device. `bytes` is a multiple of 4; float dtypes only. */
  fillRandom(out: DevicePtr, bytes: number, dtype: DType, seed: number): void;
  /** Random bits in which every float16 is finite, wherever it starts on two bytes: GGML blocks. `bytes`: a multiple of 4. */
  fillBits(out: DevicePtr, bytes: number, seed: number): void;
  /** Reads `bytes` (rounded down to what the grid covers evenly; returned) and writes nothing. */
  read(from: DevicePtr, bytes: number): number;
}

export function loadProbes(device: Device): Probes {
  const fill = probe(device, "fill_random", fillRandom, 24);
  const read = probe(device, "read_memory", readMemory, 24);
  const kinds: Record<string, number> = { f32: 0, f16: 1, bf16: 2 };
  const threads = device.attributes.multiprocessors * 8 * 256;
  const fillWords = (out: DevicePtr, bytes: number, seed: number, kind: number): void =>
    fill((args) => {
      args.setBigUint64(0, out, true);
      args.setBigUint64(8, BigInt(bytes / 4), true);
      args.setUint32(16, seed, true);
      args.setUint32(20, kind, true);
    });
  return {
    fillRandom(out, bytes, dtype, seed) {
      const kind = kinds[dtype.short];
      if (kind === undefined) throw new ArgumentError(`bench: random data are floats, not ${dtype.name}`);
      fillWords(out, bytes, seed, kind);
    },
    fillBits: (out, bytes, seed) => fillWords(out, bytes, seed, 3),
    read(from, bytes) {
      const round = threads * 4 * 16;
      const covered = Math.floor(bytes / round) * round;
      read((args) => {
        args.setBigUint64(0, from, true);
        args.setBigUint64(8, from, true);
        args.setBigUint64(16, BigInt(covered / 16), true);
      });
      return covered;
    },
  };
}

/** TB/s, reading 2 GiB twice in turn. */
export function readBandwidth(device: Device): number {
  const bytes = 2 ** 31;
  const probes = loadProbes(device);
  using buffer = device.allocate(2 * bytes, { tag: "bench" });
  probes.fillRandom(buffer.ptr, 2 * bytes, float32, 1);
  let covered = bytes;
  const timing = timeRotating(device, 2, (i) => {
    covered = probes.read(ptrAdd(buffer.ptr, i * bytes), bytes);
  });
  return covered / timing.medianUs / 1e6;
}
