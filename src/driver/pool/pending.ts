import type { Device } from "../device.ts";
import type { Event } from "../event.ts";
import type { Stream } from "../stream.ts";
import type { Block } from "./segment.ts";

/** A freed block, and the streams other than its own that may still be working on it. */
interface Deferred {
  readonly block: Block;
  readonly streams: readonly Stream[];
}

interface Pending {
  readonly block: Block;
  readonly events: readonly Event[];
}

/**
 * Freed blocks that other streams used. An event is recorded on each of those streams; when all have been reached, the
 * block is free. While anything is captured no event may be recorded or asked, so that frees wait for the end of it.
 */
export class PendingBlocks {
  readonly #device: Device;
  #deferred: Deferred[] = [];
  #pending: Pending[] = [];
  /** Events to record again, by device: streams of a peer need the peer's events. */
  readonly #spare = new Map<Device, Event[]>();

  constructor(device: Device) {
    this.#device = device;
  }

  get empty(): boolean {
    return this.#deferred.length === 0 && this.#pending.length === 0;
  }

  add(block: Block, streams: readonly Stream[]): void {
    this.#deferred.push({ block, streams });
    if (!this.#device.capturing) this.#recordDeferred();
  }

  /** Takes out the blocks that are free now; with `wait`, waits until all are. */
  collect(wait = false): Block[] {
    if (this.empty || this.#device.capturing) return [];
    this.#recordDeferred();
    for (const device of this.#spare.keys()) if (device.disposed) this.#spare.delete(device);
    const ready: Block[] = [];
    const still: Pending[] = [];
    for (const item of this.#pending) {
      // A peer that was disposed has finished, and its events are gone with its context.
      const events = item.events.filter((event) => !event.device.disposed);
      if (wait) for (const event of events) event.synchronize();
      if (wait || events.every((event) => event.done)) {
        ready.push(item.block);
        for (const event of events) this.#spareOf(event.device).push(event);
      } else {
        still.push(item);
      }
    }
    this.#pending = still;
    return ready;
  }

  /** Forgets every block and destroys the events. */
  clear(): void {
    for (const event of [...this.#pending.flatMap((item) => item.events), ...[...this.#spare.values()].flat()]) {
      if (!event.device.disposed) event.dispose();
    }
    this.#spare.clear();
    this.#pending = [];
    this.#deferred = [];
  }

  #recordDeferred(): void {
    for (const { block, streams } of this.#deferred) {
      const events: Event[] = [];
      for (const stream of streams) {
        if (stream.disposed) continue; // it was waited for when it went
        const event = this.#spareOf(stream.device).pop() ?? stream.device.createEvent();
        stream.record(event);
        events.push(event);
      }
      this.#pending.push({ block, events });
    }
    this.#deferred = [];
  }

  #spareOf(device: Device): Event[] {
    let events = this.#spare.get(device);
    if (!events) {
      events = [];
      this.#spare.set(device, events);
    }
    return events;
  }
}
