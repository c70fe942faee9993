import { ArgumentError } from "../../base/errors.ts";

export interface StopResult {
  /** Text that is certain to come before any stop string. */
  readonly text: string;
  /** The stop string that was found; it and what follows it are not part of any text. */
  readonly stop: string | undefined;
}

interface Node {
  readonly next: Map<string, Node>;
  /** The longest proper suffix of this node's string that begins some stop string. */
  fail: Node | undefined;
  /** UTF-16 length of the string that leads here. */
  readonly length: number;
  /** The longest stop string that ends here. */
  stop: string | undefined;
}

/**
 * Finds stop strings in text that comes in pieces. Holds back only the end of the text that may still become a stop string:
 * its longest suffix that is a proper beginning of one. The stop string that is complete first counts, the longest where several
 * end together; so the result does not depend on how the text is cut. Constant work per character (Aho-Corasick).
 */
export class StopMatcher {
  readonly #root: Node = { next: new Map(), fail: undefined, length: 0, stop: undefined };
  #node: Node = this.#root;
  #held = "";
  #found: string | undefined;

  /** Throws ArgumentError for an empty stop string, which would match everywhere. */
  constructor(stops: Iterable<string>) {
    for (const stop of stops) {
      if (stop === "") throw new ArgumentError("a stop string must not be empty");
      let node = this.#root;
      for (let i = 0; i < stop.length; i++) node = childOf(node, stop[i]!);
      node.stop = stop;
    }
    this.#linkFailures();
  }

  /** After a stop was found, nothing more comes out. */
  push(text: string): StopResult {
    if (this.#found !== undefined) return { text: "", stop: this.#found };
    const all = this.#held + text;
    // By UTF-16 units, so that even a cut within a surrogate pair does not hide a stop.
    for (let end = this.#held.length + 1; end <= all.length; end++) {
      this.#node = this.#step(this.#node, all[end - 1]!);
      if (this.#node.stop !== undefined) {
        this.#found = this.#node.stop;
        this.#held = "";
        return { text: all.slice(0, end - this.#found.length), stop: this.#found };
      }
    }
    const certain = all.length - this.#node.length;
    this.#held = all.slice(certain);
    return { text: all.slice(0, certain), stop: undefined };
  }

  /** The text held back, when no more comes. */
  end(): string {
    const text = this.#held;
    this.#held = "";
    this.#node = this.#root;
    return text;
  }

  #step(from: Node, unit: string): Node {
    for (let node: Node | undefined = from; node; node = node.fail) {
      const next = node.next.get(unit);
      if (next) return next;
    }
    return this.#root;
  }

  /** Breadth first, so that a node's shorter suffixes are ready before it. */
  #linkFailures(): void {
    const queue: Node[] = [];
    for (const child of this.#root.next.values()) {
      child.fail = this.#root;
      queue.push(child);
    }
    for (let i = 0; i < queue.length; i++) {
      const node = queue[i]!;
      node.stop ??= node.fail?.stop;
      for (const [unit, child] of node.next) {
        child.fail = node.fail ? this.#step(node.fail, unit) : this.#root;
        queue.push(child);
      }
    }
  }
}

function childOf(node: Node, unit: string): Node {
  const existing = node.next.get(unit);
  if (existing) return existing;
  const child: Node = { next: new Map(), fail: undefined, length: node.length + 1, stop: undefined };
  node.next.set(unit, child);
  return child;
}
