import { afterAll, describe, expect, test } from "vitest";
import { checkedDevice, kernel, launch, ptxLine, verdict } from "./support.ts";

const device = checkedDevice();
afterAll(() => device.dispose());

const tile = ".shared .align 16 .b8 tile[1024];";
/** %r1: the thread's own word of the tile; %r0: the tile. */
const own = "mov.u32 %r0, tile; mad.lo.u32 %r1, %t, 4, %r0;";

function run(source: string[], threads = 64, declarations = tile): string {
  using buffer = device.allocate(4 * 256);
  device.stream.fill32(buffer.ptr, 0, 256);
  return verdict(() => launch(kernel(device, source, declarations), buffer, threads));
}

function line(sourceLine: number, instruction: string): string {
  return `PTX line ${ptxLine(sourceLine)} (bug.cu:${sourceLine}, ${instruction})`;
}

describe("races inside a warp", () => {
  const neighbour = (between: string) => [
    own,
    "st.shared.u32 [%r1], %t; bar.sync 0;",
    "add.u32 %r2, %t, 100; st.shared.u32 [%r1], %r2;",
    between,
    "xor.b32 %r3, %t, 1; mad.lo.u32 %r3, %r3, 4, %r0; ld.shared.u32 %r4, [%r3];",
    "st.global.u32 [%a], %r4;",
  ];

  test("lanes that rely on lockstep", () => {
    const found = run(neighbour(""), 32);
    expect(found).toMatch(/data race: bug block \(0,0,0\) thread \(1,0,0\)/);
    expect(found).toContain(line(3, "st.shared.u32"));
    expect(found).toContain(`thread (0,0,0) reads there at ${line(5, "ld.shared.u32")} without a barrier`);
  });

  test.each([
    ["__syncwarp", "bar.warp.sync 0xffffffff;"],
    ["a shuffle", "shfl.sync.bfly.b32 %r5, %t, 1, 0x1f, 0xffffffff;"],
    [
      "a shuffle of part of the warp",
      "and.b32 %r6, %t, 28; mov.u32 %r5, 15; shl.b32 %r5, %r5, %r6; bar.warp.sync %r5;",
    ],
    ["a vote", "vote.sync.ballot.b32 %r5, 1, 0xffffffff;"],
    ["a barrier of the block", "bar.sync 0;"],
  ])("%s orders them", (_, between) => {
    expect(run(neighbour(between), 32)).toBe("clean");
  });

  test("activemask does not", () => {
    expect(run(neighbour("activemask.b32 %r5;"), 32)).toContain("data race");
  });

  test("a barrier of other lanes does not", () => {
    // Lanes 0 to 15 meet, lanes 16 to 31 do not.
    const found = run(neighbour("setp.lt.u32 %p, %t, 16; @%p bar.warp.sync 0xffff;"), 32);
    expect(found).toMatch(/data race: bug block \(0,0,0\) thread \(17,0,0\)/);
  });

  test("order passes from lane to lane", () => {
    // Lane 1 meets 0, then 2: what 0 wrote is known to 2.
    const chain = [
      own,
      "setp.eq.u32 %p, %t, 0; @%p st.shared.u32 [tile], 7;",
      "setp.lt.u32 %p, %t, 2; @%p bar.warp.sync 3;",
      "sub.u32 %r2, %t, 1; setp.lt.u32 %p, %r2, 2; @%p bar.warp.sync 6;",
      "setp.eq.u32 %p, %t, 2; @%p ld.shared.u32 %r3, [tile];",
    ];
    expect(run(chain, 32)).toBe("clean");
    expect(run(chain.toSpliced(3, 1), 32)).toMatch(
      /thread \(2,0,0\), .* reads 4 bytes .* thread \(0,0,0\) writes there at/,
    );
  });
});

describe("races between warps", () => {
  const exchange = (between: string) => [
    own,
    "st.shared.u32 [%r1], 0; bar.sync 0;",
    "st.shared.u32 [%r1], %t;",
    between,
    "xor.b32 %r3, %t, 32; mad.lo.u32 %r3, %r3, 4, %r0; ld.shared.u32 %r4, [%r3];",
  ];

  test("what a warp does among its own lanes does not order others", () => {
    expect(run(exchange("bar.warp.sync 0xffffffff; shfl.sync.bfly.b32 %r5, %t, 1, 0x1f, 0xffffffff;"))).toContain(
      "data race",
    );
    expect(run(exchange("membar.cta;"))).toContain("data race");
  });

  test("barriers order those that come to them", () => {
    expect(run(exchange("barrier.sync 3;"))).toBe("clean");
    // Four warps, in pairs that have a barrier each.
    const pairs = "shr.u32 %r5, %t, 6; add.u32 %r5, %r5, 1; bar.sync %r5, 64;";
    expect(run(exchange(pairs), 128)).toBe("clean");
    const across = exchange(pairs).with(
      4,
      "xor.b32 %r3, %t, 64; mad.lo.u32 %r3, %r3, 4, %r0; ld.shared.u32 %r4, [%r3];",
    );
    expect(run(across, 128)).toContain("data race");
  });

  test("bar.red orders as bar.sync does", () => {
    expect(run(exchange("setp.eq.u32 %p, %t, 0; bar.red.popc.u32 %r5, 0, %p;"))).toBe("clean");
  });

  /** Warp 0 fills the tile and arrives; warp 1 waits and reads. Then the other way round with barrier 2. */
  const pipeline = (filled: string, emptied: string) => [
    own,
    "setp.ge.u32 %p, %t, 32; @%p bra READER;",
    "mov.u32 %r5, 0;",
    "FILL: add.u32 %r6, %r5, %t; st.shared.u32 [%r1], %r6;",
    filled,
    "bar.sync 2, 64;",
    "add.u32 %r5, %r5, 1; setp.lt.u32 %q, %r5, 3; @%q bra FILL; bra DONE;",
    "READER: mov.u32 %r5, 0; sub.u32 %r1, %r1, 128;",
    "DRAIN: bar.sync 1, 64;",
    "ld.shared.u32 %r7, [%r1]; st.global.u32 [%a], %r7;",
    emptied,
    "add.u32 %r5, %r5, 1; setp.lt.u32 %q, %r5, 3; @%q bra DRAIN;",
    "DONE: mov.u32 %r5, 0;",
  ];

  test("producer and consumer with bar.arrive", () => {
    expect(run(pipeline("bar.arrive 1, 64;", "bar.arrive 2, 64;"))).toBe("clean");
  });

  test("arriving before the work is done orders too little", () => {
    const early = pipeline("", "bar.arrive 2, 64;").with(
      3,
      "FILL: bar.arrive 1, 64; add.u32 %r6, %r5, %t; st.shared.u32 [%r1], %r6;",
    );
    expect(run(early)).toMatch(/data race|never-written/);
  });

  const doubleBuffered = (second: string) => [
    own,
    "mov.u32 %r5, 0;",
    `LOOP: and.b32 %r6, %r5, 1; mad.lo.u32 %r7, %r6, ${second}, %r1; st.shared.u32 [%r7], %t;`,
    "bar.sync 0;",
    `xor.b32 %r3, %t, 33; mad.lo.u32 %r3, %r3, 4, %r0; mad.lo.u32 %r3, %r6, ${second}, %r3; ld.shared.u32 %r4, [%r3];`,
    "add.u32 %r5, %r5, 1; setp.lt.u32 %q, %r5, 4; @%q bra LOOP;",
  ];

  test("a double buffer needs one barrier a step, a single one two", () => {
    expect(run(doubleBuffered("256"))).toBe("clean");
    const found = run(doubleBuffered("0"));
    expect(found).toContain(`${line(5, "ld.shared.u32")} reads`);
    expect(found).toContain(`thread (1,0,0) writes there at ${line(3, "st.shared.u32")}`);
  });

  test("many readers before one writer are all remembered", () => {
    const broadcast = [
      own,
      "st.shared.u32 [tile], 5; bar.sync 0;",
      "ld.shared.u32 %r4, [tile];",
      "@%p st.shared.u32 [tile], 6;",
    ];
    for (const writer of [0, 31, 63]) {
      expect(run(broadcast.with(3, `setp.eq.u32 %p, %t, ${writer}; ${broadcast[3]}`))).toContain("data race");
    }
  });

  test("two halves of a word belong to two threads", () => {
    const halves = [
      ".reg .b16 %h; cvt.u16.u32 %h, %t; mov.u32 %r0, tile; mad.lo.u32 %r1, %t, 2, %r0;",
      "st.shared.u16 [%r1], %h;",
    ];
    expect(run(halves, 256)).toBe("clean");
  });
});

describe("same values, atomics", () => {
  test("threads that write the same value do not race; those that write another do", () => {
    const flag = (value: string) => [
      own,
      "st.shared.u32 [tile], 0; bar.sync 0;",
      `st.shared.u32 [tile], ${value};`,
      "bar.sync 0; ld.shared.u32 %r4, [tile];",
    ];
    expect(run(flag("1"))).toBe("clean");
    const found = run(flag("%t"));
    expect(found).toMatch(/data race: .* thread \(1,0,0\), .* writes 4 bytes .* thread \(0,0,0\) writes there at/);
  });

  const histogram = (between: string, update = "atom.shared.add.u32 %r4, [%r3], 1;") => [
    own,
    "st.shared.u32 [%r1], 0; bar.sync 0;",
    "and.b32 %r3, %t, 7; mad.lo.u32 %r3, %r3, 4, %r0;",
    update,
    between,
    "ld.shared.u32 %r4, [%r1]; st.global.u32 [%a], %r4;",
  ];

  test("atomics do not race with each other, but with plain accesses", () => {
    expect(run(histogram("bar.sync 0;"))).toBe("clean");
    expect(run(histogram(""))).toContain("data race");
    expect(
      run(histogram("bar.sync 0;", "ld.shared.u32 %r4, [%r3]; add.u32 %r4, %r4, 1; st.shared.u32 [%r3], %r4;")),
    ).toContain("data race");
  });

  test("an atomic reads, so that the counter must have been written", () => {
    expect(run(histogram("bar.sync 0;").toSpliced(1, 1))).toContain("never-written shared memory");
  });
});

describe("asynchronous copies", () => {
  const copy = (waits: string, barrier: string) => [
    `mov.u32 %r0, tile; mad.lo.u32 %r1, %t, 16, %r0; and.b32 %r2, %t, 15; mad.wide.u32 %b, %r2, 16, %out;`,
    "cp.async.ca.shared.global [%r1], [%b], 16;",
    waits,
    barrier,
    "xor.b32 %r3, %t, 32; mad.lo.u32 %r3, %r3, 16, %r0; ld.shared.v4.u32 {%r4, %r5, %r6, %r7}, [%r3];",
  ];
  const commitAndWait = "cp.async.commit_group; cp.async.wait_group 0;";

  test("are there after a wait and a barrier", () => {
    expect(run(copy(commitAndWait, "bar.sync 0;"))).toBe("clean");
    expect(run(copy("cp.async.wait_all;", "bar.sync 0;"))).toBe("clean");
  });

  test.each([
    ["no wait", "cp.async.commit_group;"],
    ["a wait that lets the group run on", "cp.async.commit_group; cp.async.wait_group 1;"],
    ["a wait without a commit", "cp.async.wait_group 0;"],
  ])("%s is a race even behind a barrier", (_, waits) => {
    const found = run(copy(waits, "bar.sync 0;"));
    expect(found).toContain(`copies asynchronously there at ${line(2, "cp.async.ca.shared.global")}`);
    expect(found).toContain("without cp.async.wait_group and a barrier in between");
  });

  test("a wait without a barrier orders the thread alone", () => {
    const exchange = copy(commitAndWait, "");
    expect(run(exchange)).toMatch(/data race|never-written/);
    const alone = exchange.with(4, "ld.shared.v4.u32 {%r4, %r5, %r6, %r7}, [%r1];");
    expect(run(alone)).toBe("clean");
    expect(run(alone.with(2, ""))).toMatch(/thread \(0,0,0\) copies .* without cp\.async\.wait_group in between/);
  });

  test("a ring of stages", () => {
    const ring = (barrierAtEnd: string) => [
      "mov.u32 %r0, tile; mad.lo.u32 %r1, %t, 4, %r0; mov.u32 %r5, 0;",
      "cp.async.ca.shared.global [%r1], [%a], 4; cp.async.commit_group;",
      "LOOP: add.u32 %r6, %r5, 1; and.b32 %r6, %r6, 1; mad.lo.u32 %r7, %r6, 256, %r1;",
      "cp.async.ca.shared.global [%r7], [%a], 4; cp.async.commit_group;",
      "cp.async.wait_group 1; bar.sync 0;",
      "and.b32 %r6, %r5, 1; xor.b32 %r3, %t, 32; mad.lo.u32 %r3, %r3, 4, %r0; mad.lo.u32 %r3, %r6, 256, %r3; ld.shared.u32 %r4, [%r3];",
      barrierAtEnd,
      "add.u32 %r5, %r5, 1; setp.lt.u32 %q, %r5, 4; @%q bra LOOP;",
    ];
    expect(run(ring("bar.sync 0;"))).toBe("clean");
    const found = run(ring(""));
    expect(found).toContain(`${line(6, "ld.shared.u32")} reads 4 bytes`);
    expect(found).toContain(`thread (0,0,0) copies asynchronously there at ${line(4, "cp.async.ca.shared.global")}`);
  });
});
