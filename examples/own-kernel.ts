/**
 * A kernel of your own, from PTX text: y = a * x + y. The driver compiles it; no toolkit is needed. `nvcc -ptx` writes such
 * text from CUDA C++. Run: npx tsx examples/own-kernel.ts
 */
import { CustomKernel, openDevice, Tensor } from "llcuda";

const ptx = `
.version 5.0
.target sm_60
.address_size 64

// saxpy(float* y, const float* x, float a, unsigned count)
.visible .entry saxpy(.param .u64 y, .param .u64 x, .param .f32 a, .param .u32 count)
{
  .reg .pred %outside;
  .reg .b32 %index, %block, %threads, %thread, %n;
  .reg .b64 %yp, %xp, %offset;
  .reg .f32 %av, %xv, %yv;

  mov.u32 %block, %ctaid.x;
  mov.u32 %threads, %ntid.x;
  mov.u32 %thread, %tid.x;
  mad.lo.s32 %index, %block, %threads, %thread;
  ld.param.u32 %n, [count];
  setp.ge.u32 %outside, %index, %n;
  @%outside bra DONE;

  ld.param.u64 %yp, [y];
  ld.param.u64 %xp, [x];
  ld.param.f32 %av, [a];
  cvta.to.global.u64 %yp, %yp;
  cvta.to.global.u64 %xp, %xp;
  mul.wide.u32 %offset, %index, 4;
  add.s64 %yp, %yp, %offset;
  add.s64 %xp, %xp, %offset;
  ld.global.f32 %xv, [%xp];
  ld.global.f32 %yv, [%yp];
  fma.rn.f32 %yv, %av, %xv, %yv;
  st.global.f32 [%yp], %yv;
DONE:
  ret;
}
`;

const device = openDevice();
using saxpy = new CustomKernel(device, {
  ptx,
  symbol: "saxpy",
  args: { y: "ptr", x: "ptr", a: "f32", count: "u32" }, // in the entry's order
});

using x = Tensor.arange(0, 10, 1, { device, dtype: "float32" });
using y = Tensor.ones([10], { device });
saxpy.launch({ grid: [Math.ceil(x.size / 256)], block: 256 }, { y: y.ptr, x: x.ptr, a: 2, count: x.size });

// Launches and copies on one stream run in order, so this waits for the kernel.
console.log(y.toNested());
console.log(`${saxpy.function.attributes.registers} registers a thread`);
