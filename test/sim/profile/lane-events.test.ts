import { describe, expect, test } from "vitest";
import { LaneEvents } from "../../../src/sim/profile/lane-events.ts";

/** Fragments and the lanes that run them together, as lane numbers. */
function together(record: (events: LaneEvents) => void): [number, number[]][] {
  const events = new LaneEvents();
  record(events);
  const seen: [number, number[]][] = [];
  const lanesOf = (mask: number) => Array.from({ length: 32 }, (_, lane) => lane).filter((lane) => (mask >>> lane) & 1);
  events.together({
    fragment: (fragment, lanes) => seen.push([fragment, lanesOf(lanes)]),
    guarded: () => {},
    access: () => {},
  });
  return seen;
}

const path = (events: LaneEvents, lane: number, ...fragments: number[]) => {
  for (const fragment of fragments) events.step(fragment, lane);
};

describe("what lanes do together", () => {
  test("all take the same way", () => {
    const seen = together((events) => {
      for (const lane of [0, 1, 31]) path(events, lane, 0, 1, 2);
    });
    expect(seen).toEqual([0, 1, 2].map((fragment) => [fragment, [0, 1, 31]]));
  });

  test("two ways that join", () => {
    const seen = together((events) => {
      path(events, 0, 0, 1, 3);
      path(events, 1, 0, 2, 3);
      path(events, 2, 0, 1, 3);
    });
    expect(seen).toEqual([
      [0, [0, 1, 2]],
      [1, [0, 2]],
      [2, [1]],
      [3, [0, 1, 2]],
    ]);
  });

  test("a loop that some leave early: they wait behind it", () => {
    const seen = together((events) => {
      path(events, 0, 0, 1, 1, 1, 2);
      path(events, 1, 0, 1, 2);
    });
    expect(seen).toEqual([
      [0, [0, 1]],
      [1, [0, 1]],
      [1, [0]],
      [1, [0]],
      [2, [0, 1]],
    ]);
  });

  test("nested loops meet at each turn of the outer one", () => {
    // Inner turns: lane 0 takes two, then one; lane 1 one, then two.
    const seen = together((events) => {
      path(events, 0, 0, 1, 1, 2, 1, 2, 3);
      path(events, 1, 0, 1, 2, 1, 1, 2, 3);
    });
    expect(seen).toEqual([
      [0, [0, 1]],
      [1, [0, 1]],
      [1, [0]],
      [2, [0, 1]],
      [1, [0, 1]],
      [1, [1]],
      [2, [0, 1]],
      [3, [0, 1]],
    ]);
  });

  test("accesses of one execution are one access of the warp, by site, kind and size", () => {
    const events = new LaneEvents();
    for (const lane of [4, 9]) {
      events.step(0, lane);
      events.access(100 + lane, 4, 7, lane);
      events.guarded(8, lane);
      events.access(0x90000000 + lane, 0x110, 9, lane);
      if (lane === 9) events.access(500, 4, 9, lane);
      events.step(0, lane);
      events.access(200 + lane, 4, 7, lane);
    }
    const seen: unknown[] = [];
    events.together({
      fragment: () => {},
      guarded: (site, lanes) => seen.push({ site, lanes }),
      access: (site, lanes, addresses, access) => {
        seen.push({
          site,
          lanes,
          access,
          of: [addresses[4], addresses[9]].filter((_, i) => (lanes >>> [4, 9][i]!) & 1),
        });
      },
    });
    const both = (1 << 4) | (1 << 9);
    expect(seen).toEqual([
      { site: 7, lanes: both, access: 4, of: [104, 109] },
      { site: 8, lanes: both },
      { site: 9, lanes: both, access: 0x110, of: [0x90000004, 0x90000009] },
      { site: 9, lanes: 1 << 9, access: 4, of: [500] },
      { site: 7, lanes: both, access: 4, of: [204, 209] },
    ]);
    events.clear();
    expect(events.lanes).toBe(0);
  });

  test("long runs are kept whole", () => {
    const seen = together((events) => {
      for (let lane = 0; lane < 32; lane++) path(events, lane, ...Array.from({ length: 2000 }, (_, i) => i % 3));
    });
    expect(seen).toHaveLength(2000);
    expect(seen.every(([, lanes]) => lanes.length === 32)).toBe(true);
  });
});
