/**
 * Tensors on the GPU, and who frees them. Run: npx tsx examples/tensors.ts
 */
import { openDevice, ShapeError, Tensor, tidy } from "llcuda";

const device = openDevice(); // LLCUDA_DEVICE, else the first GPU, else sim

// Everything made inside tidy() is freed at its end, except what it returns.
const attention = tidy(() => {
  const query = Tensor.randn([8, 64], { seed: 1 });
  const key = Tensor.randn([8, 64], { seed: 2 });
  const value = Tensor.randn([8, 64], { seed: 3 });
  return query
    .matmul(key.transpose(0, 1)) // a view: nothing is copied
    .mul(1 / Math.sqrt(64))
    .softmax(-1)
    .matmul(value);
});
console.log(`${attention}, row sums ${tidy(() => attention.sum(1).toNested())}`);

// A view shares memory: writing through it changes the tensor.
{
  using zeros = Tensor.zeros([2, 3]);
  using row = zeros.select(0, 1);
  row.fill_(7);
  console.log(JSON.stringify(zeros.toNested()));
}

// Halves of the memory, sums still in float32.
{
  using halves = attention.to("bfloat16");
  console.log(`${halves}: ${halves.sizeBytes} bytes`);
}

// Operands that do not fit are named with their shapes.
try {
  tidy(() => Tensor.ones([2, 3]).matmul(Tensor.ones([4, 5])));
} catch (error) {
  if (!(error instanceof ShapeError)) throw error;
  console.log(error.message);
}

attention.dispose();
const { liveBuffers, allocatedBytes, reservedBytes } = device.memory.statistics();
console.log(`${liveBuffers} buffers, ${allocatedBytes} bytes in use, ${reservedBytes} kept for reuse`);
