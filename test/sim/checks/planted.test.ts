import { afterAll, describe, expect, test } from "vitest";
import { checkedDevice, kernel, launch, ptxLine, verdict } from "./support.ts";

/** Kernels with one bug each, as an author would write it, and their twins without it. */
const device = checkedDevice();
afterAll(() => device.dispose());

/** Runs one block on a buffer of `words` floats; `written` says whether the host fills it first. */
function run(
  source: string[],
  options: { declarations?: string; threads?: number; words?: number; written?: boolean },
) {
  const { declarations = "", threads = 32, words = 32, written = true } = options;
  using buffer = device.allocate(4 * words, { tag: "activations" });
  if (written) device.stream.fill32(buffer.ptr, 0, words);
  return verdict(() => launch(kernel(device, source, declarations), buffer, threads));
}

function line(sourceLine: number, instruction: string): string {
  return `PTX line ${ptxLine(sourceLine)} (bug.cu:${sourceLine}, ${instruction})`;
}

describe("the five planted bugs", () => {
  test("an out-of-bounds read by one element", () => {
    const shift = (distance: number) => [
      `ld.global.f32 %f0, [%a + ${4 * distance}];`,
      "add.f32 %f0, %f0, 0f3F800000;",
      "st.global.f32 [%a], %f0;",
    ];
    const found = run(shift(1), {});
    expect(found).toMatch(/^CUDA_ERROR_ILLEGAL_ADDRESS: out of bounds: bug block \(0,0,0\) thread \(31,0,0\), /);
    expect(found).toContain(`${line(1, "ld.global.f32")} reads 4 bytes at 0x`);
    expect(found).toMatch(/is just past the end of the allocation of 128 bytes at 0x[0-9a-f]+ \(activations\)$/);
    expect(run(shift(0), {})).toBe("clean");
  });

  const tile = ".shared .align 4 .b8 tile[256];";
  const reverse = (barrier: string) => [
    "ld.global.f32 %f0, [%a]; mov.u32 %r0, tile; mad.lo.u32 %r1, %t, 4, %r0;",
    "st.shared.f32 [%r1], %f0;",
    barrier,
    "sub.u32 %r2, 63, %t; mad.lo.u32 %r3, %r2, 4, %r0;",
    "ld.shared.f32 %f1, [%r3]; st.global.f32 [%a], %f1;",
  ];

  test("a missing barrier", () => {
    // Thread 0 runs first, and reads what thread 63 has not written yet.
    expect(run(reverse(""), { declarations: tile, threads: 64, words: 64 })).toContain("never-written shared memory");
    // With the tile written before, the read races with the write of thread 0, which ran earlier.
    const twice = [
      "mov.u32 %r0, tile; mad.lo.u32 %r1, %t, 4, %r0; st.shared.u32 [%r1], %t; bar.sync 0;",
      ...reverse(""),
    ];
    const found = run(twice, { declarations: tile, threads: 64, words: 64 });
    expect(found).toMatch(/^CUDA_ERROR_LAUNCH_FAILED: data race: bug block \(0,0,0\) thread \(32,0,0\), /);
    expect(found).toContain(
      `${line(3, "st.shared.f32")} writes 4 bytes at shared address 128, 128 bytes into tile (256 bytes)`,
    );
    expect(found).toContain(`thread (31,0,0) reads there at ${line(6, "ld.shared.f32")} without a barrier in between`);
    expect(run(reverse("bar.sync 0;"), { declarations: tile, threads: 64, words: 64 })).toBe("clean");
  });

  test("an uninitialised shared read", () => {
    // A tile of 33 columns of which 32 are filled.
    const sum = (last: number) => [
      "mov.u32 %r0, tile; mad.lo.u32 %r1, %t, 4, %r0;",
      "st.shared.u32 [%r1], %t;",
      "bar.sync 0;",
      `ld.shared.u32 %r2, [%r1 + ${4 * last}];`,
      "st.global.u32 [%a], %r2;",
    ];
    const found = run(sum(1), { declarations: tile });
    expect(found).toMatch(
      /^CUDA_ERROR_LAUNCH_FAILED: never-written shared memory: bug block \(0,0,0\) thread \(31,0,0\), /,
    );
    expect(found).toContain(`${line(4, "ld.shared.u32")} reads 4 bytes at shared address 128, 128 bytes into tile`);
    expect(run(sum(0), { declarations: tile })).toBe("clean");
  });

  test("a misaligned vector load", () => {
    const load = (step: number) => [
      `mad.wide.u32 %a, %t, ${step}, %out;`,
      "ld.global.v2.f32 {%f0, %f1}, [%a];",
      "add.f32 %f0, %f0, %f1;",
    ];
    const found = run(load(4), { words: 64 });
    expect(found).toMatch(/^CUDA_ERROR_MISALIGNED_ADDRESS: bug block \(0,0,0\) thread \(1,0,0\), /);
    expect(found).toContain(line(2, "ld.global.v2.f32"));
    expect(found).toMatch(
      /: address 0x[0-9a-f]+ is not a multiple of 8; it is 4 bytes into the allocation of 256 bytes at 0x[0-9a-f]+ \(activations\)$/,
    );
    expect(run(load(8), { words: 64 })).toBe("clean");
    const shared = (offset: number) => ["mov.u32 %r0, tile;", `st.shared.v4.u32 [%r0 + ${offset}], {%t, %t, %t, %t};`];
    expect(run(shared(8), { declarations: tile, threads: 1 })).toContain(
      `${line(2, "st.shared.v4.u32")}: address 8 of shared memory is not a multiple of 16; it is 8 bytes into tile (256 bytes)`,
    );
    expect(run(shared(16), { declarations: tile, threads: 1 })).toBe("clean");
  });

  test("a divergent bar.sync", () => {
    // Each half of the block has a barrier of its own in the text, and the same one in the hardware.
    const branches = [
      "setp.lt.u32 %p, %t, 16;",
      "@%p bra LOW;",
      "bar.sync 0; bra DONE;",
      "LOW: add.u32 %r0, %t, 1;",
      "bar.sync 0;",
      "DONE: st.global.u32 [%a], %t;",
    ];
    const found = run(branches, {});
    expect(found).toMatch(/^CUDA_ERROR_LAUNCH_FAILED: divergent barrier: bug block \(0,0,0\) thread \(0,0,0\), /);
    expect(found).toContain(
      `${line(5, "bar.sync")} meets thread (16,0,0) at another instruction, ${line(3, "bar.sync")}`,
    );
    // Or half a warp has one, and the others leave.
    const half = [
      "setp.lt.u32 %p, %t, 48;",
      "@!%p bra DONE;",
      "bar.sync 0;",
      "st.global.u32 [%a], %t;",
      "DONE: mov.u32 %r0, 0;",
    ];
    const left = run(half, { threads: 64, words: 64 });
    expect(left).toMatch(/^CUDA_ERROR_LAUNCH_FAILED: divergent barrier: bug block \(0,0,0\) thread \(32,0,0\), /);
    expect(left).toContain(
      `${line(3, "bar.sync")} is reached by 16 of the 32 threads of its warp; thread (48,0,0) has exited`,
    );
    // Whole warps may leave, and a warp need not be whole.
    expect(run(half.with(0, "setp.lt.u32 %p, %t, 64;"), { threads: 100, words: 100 })).toBe("clean");
    expect(run(half.with(2, "barrier.sync 0;"), { threads: 64, words: 64 })).toBe("clean");
    const one = [branches[0]!, "@%p add.u32 %r0, %t, 1;", "bar.sync 0;", "st.global.u32 [%a], %t;"];
    expect(run(one, {})).toBe("clean");
  });
});
