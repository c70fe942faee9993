import type { Register, Variable } from "./ast.ts";

export type Declared = { readonly register: Register } | { readonly variable: Variable };

/** Names declared between two braces; those of the scopes around are visible. Labels get names unique in the kernel. */
export class Scope {
  readonly #parent: Scope | undefined;
  readonly #names = new Map<string, Declared>();
  readonly #children: { count: number };
  /** Distinguishes the labels of nested scopes: each instance of an inlined `asm` block declares its own. */
  readonly #suffix: string;
  /** Distinguishes what a function's body declares, of which each call makes a copy. */
  readonly #copy: string;

  constructor(parent: Scope | undefined, isFunction = false) {
    this.#parent = parent;
    this.#children = parent ? parent.#children : { count: 0 };
    const nested = parent !== undefined && parent.#parent !== undefined;
    this.#suffix = nested || isFunction ? `@${++this.#children.count}` : "";
    this.#copy = isFunction ? this.#suffix : parent ? parent.#copy : "";
  }

  add(name: string, declared: Declared): void {
    this.#names.set(name, declared);
  }

  find(name: string): Declared | undefined {
    return this.#names.get(name) ?? this.#parent?.find(name);
  }

  declareLabel(name: string): string {
    return this.labelName(name);
  }

  /** Labels that compilers make (`$L…`) are unique in their function; others belong to their scope. */
  labelName(name: string): string {
    return name + (name.startsWith("$") ? this.#copy : this.#suffix);
  }
}
