import { StateError } from "../base/errors.ts";

interface Disposer {
  dispose(): void;
}

/**
 * The open `tidy` calls, innermost last. Scopes follow the call stack of this thread, so this is empty whenever no
 * `tidy` runs.
 */
const scopes: Set<Disposer>[] = [];

/** Notes a new tensor in the innermost scope. */
export function track(tensor: Disposer): void {
  scopes.at(-1)?.add(tensor);
}

/** Takes a tensor that was disposed, or that shall live on, out of its scope. */
export function untrack(tensor: Disposer): void {
  for (let i = scopes.length - 1; i >= 0; i--) if (scopes[i]!.delete(tensor)) return;
}

/**
 * Runs `run`, which must be synchronous, and disposes every tensor made inside except those in its result: a tensor, or
 * arrays and plain objects with tensors at any depth. Calls may be nested; what an inner one returns belongs to the outer.
 * When `run` throws, everything made inside is disposed. Throws StateError for an asynchronous `run`.
 */
export function tidy<T>(run: () => T): T {
  const scope = new Set<Disposer>();
  scopes.push(scope);
  let kept: Set<Disposer> | undefined;
  try {
    const result = run();
    if (result instanceof Promise) {
      throw new StateError(
        "tidy: was given an asynchronous function, whose tensors would be disposed before it ends; await first and tidy the synchronous part",
      );
    }
    kept = new Set();
    collect(result, scope, kept);
    return result;
  } finally {
    scopes.pop();
    const outer = scopes.at(-1);
    for (const tensor of scope) {
      if (kept?.has(tensor)) outer?.add(tensor);
      else tensor.dispose();
    }
  }
}

/**
 * Runs `run`, which must be synchronous; when it throws, every tensor made inside is disposed, and otherwise none: for
 * building something whose owner disposes its tensors later.
 */
export function disposeOnThrow<T>(run: () => T): T {
  const scope = new Set<Disposer>();
  scopes.push(scope);
  let failed = true;
  try {
    const result = run();
    failed = false;
    return result;
  } finally {
    scopes.pop();
    if (failed) for (const tensor of scope) tensor.dispose();
  }
}

/** Takes a tensor out of the `tidy` calls around it: whoever calls this disposes it. */
export function keep<T extends Disposer>(tensor: T): T {
  untrack(tensor);
  return tensor;
}

function collect(value: unknown, scope: ReadonlySet<Disposer>, kept: Set<Disposer>, seen = new Set<object>()): void {
  if (typeof value !== "object" || value === null || seen.has(value)) return;
  seen.add(value);
  if (scope.has(value as Disposer)) kept.add(value as Disposer);
  else if (Array.isArray(value)) for (const item of value) collect(item, scope, kept, seen);
  else if (isRecord(value)) for (const item of Object.values(value)) collect(item, scope, kept, seen);
}

function isRecord(value: object): boolean {
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
