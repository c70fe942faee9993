/**
 * Kernels that the software device, a translation to JavaScript and a plain JavaScript loop all run: 256 threads a block,
 * one output word a thread. `steps` is how often the loop runs.
 */
export interface SimKernel {
  readonly name: string;
  readonly ptx: string;
  /** PTX instructions that a thread executes. */
  instructions(steps: number): number;
  /** The same computation as a JavaScript programmer would write it. */
  plain(threads: number, steps: number, x: Float32Array, out: Float32Array): void;
}

const head = (name: string, registers: string) => `.version 7.0
.target sm_60
.address_size 64
.visible .entry ${name}(.param .u64 out, .param .u64 x, .param .u32 steps)
{
.reg .b64 %out, %x, %a, %b;
.reg .b32 %t, %i, %steps, %bx, %nt;
.reg .pred %p;
${registers}
ld.param.u64 %out, [out];
ld.param.u64 %x, [x];
ld.param.u32 %steps, [steps];
mov.u32 %bx, %ctaid.x;
mov.u32 %nt, %ntid.x;
mov.u32 %i, %tid.x;
mad.lo.u32 %t, %bx, %nt, %i;
mad.wide.u32 %a, %t, 4, %out;
mad.wide.u32 %b, %t, 4, %x;
mov.u32 %i, 0;
`;
const headInstructions = 10;

const fma: SimKernel = {
  name: "float32 fma in registers",
  ptx: `${head("k", ".reg .f32 %v, %w, %c;")}ld.global.f32 %v, [%b];
mov.f32 %w, 0f3F7FFFF0;
mov.f32 %c, 0f3A83126F;
LOOP:
fma.rn.f32 %v, %v, %w, %c;
fma.rn.f32 %v, %v, %w, %c;
fma.rn.f32 %v, %v, %w, %c;
fma.rn.f32 %v, %v, %w, %c;
add.u32 %i, %i, 1;
setp.lt.u32 %p, %i, %steps;
@%p bra LOOP;
st.global.f32 [%a], %v;
ret;
}
`,
  instructions: (steps) => headInstructions + 3 + 7 * steps + 2,
  plain(threads, steps, x, out) {
    const w = Math.fround(0.99999905);
    const c = Math.fround(0.001);
    for (let t = 0; t < threads; t++) {
      let v = x[t]!;
      for (let i = 0; i < steps; i++) {
        // Rounded twice, which is what JavaScript has.
        v = Math.fround(v * w + c);
        v = Math.fround(v * w + c);
        v = Math.fround(v * w + c);
        v = Math.fround(v * w + c);
      }
      out[t] = v;
    }
  },
};

const integer: SimKernel = {
  name: "32-bit integers",
  ptx: `${head("k", ".reg .b32 %v, %w;")}ld.global.u32 %v, [%b];
LOOP:
mad.lo.u32 %v, %v, 1664525, %t;
shr.u32 %w, %v, 13;
xor.b32 %v, %v, %w;
shl.b32 %w, %v, 5;
xor.b32 %v, %v, %w;
add.u32 %i, %i, 1;
setp.lt.u32 %p, %i, %steps;
@%p bra LOOP;
st.global.u32 [%a], %v;
ret;
}
`,
  instructions: (steps) => headInstructions + 1 + 8 * steps + 2,
  plain(threads, steps, x, out) {
    const from = new Uint32Array(x.buffer);
    const to = new Uint32Array(out.buffer);
    for (let t = 0; t < threads; t++) {
      let v = from[t]!;
      for (let i = 0; i < steps; i++) {
        v = (Math.imul(v, 1664525) + t) | 0;
        v ^= v >>> 13;
        v ^= v << 5;
      }
      to[t] = v;
    }
  },
};

const memory: SimKernel = {
  name: "load, multiply, store",
  ptx: `${head("k", ".reg .f32 %v, %w;")}ld.global.f32 %w, [%b];
LOOP:
ld.global.f32 %v, [%b];
mul.f32 %v, %v, %w;
st.global.f32 [%a], %v;
add.s64 %b, %b, 4;
add.u32 %i, %i, 1;
setp.lt.u32 %p, %i, %steps;
@%p bra LOOP;
ret;
}
`,
  instructions: (steps) => headInstructions + 1 + 7 * steps + 1,
  plain(threads, steps, x, out) {
    for (let t = 0; t < threads; t++) {
      const w = x[t]!;
      for (let i = 0; i < steps; i++) out[t] = x[t + i]! * w;
    }
  },
};

export const simKernels: readonly SimKernel[] = [fma, integer, memory];
