import { ShapeError } from "../base/errors.ts";
import { formatShape, type Shape } from "../base/shape.ts";

/** Numbers in arrays in arrays, all of one level equally long. */
export type Nested = number | readonly Nested[];
/** What is accepted where numbers are written down. */
export type NestedInput = number | bigint | boolean | readonly NestedInput[];

/** The shape and the elements, in row-major order, of nested arrays. Throws ShapeError where they are ragged. */
export function flattenNested(op: string, nested: NestedInput): { shape: number[]; values: (number | bigint)[] } {
  const shape: number[] = [];
  for (let level: NestedInput | undefined = nested; Array.isArray(level); level = level[0]) shape.push(level.length);
  const values: (number | bigint)[] = [];
  const visit = (item: NestedInput, depth: number, path: string): void => {
    if (Array.isArray(item)) {
      if (depth >= shape.length || item.length !== shape[depth]) {
        throw ragged(op, path, `an array of ${item.length}`, shape.slice(depth));
      }
      for (const [i, inner] of item.entries()) visit(inner, depth + 1, `${path}[${i}]`);
    } else {
      if (depth < shape.length) throw ragged(op, path, String(item), shape.slice(depth));
      values.push(typeof item === "boolean" ? Number(item) : (item as number | bigint));
    }
  };
  visit(nested, 0, "");
  return { shape, values };
}

function ragged(op: string, path: string, found: string, expected: Shape): ShapeError {
  const wanted = expected.length === 0 ? "a number" : `arrays of shape ${formatShape(expected)}`;
  return new ShapeError(`${op}: element ${path} is ${found}, expected ${wanted} as at its neighbours`);
}

/** Row-major `values` as nested arrays; rank 0 gives a plain number. */
export function nest(values: ArrayLike<number>, shape: Shape): Nested {
  let next = 0;
  const build = (depth: number): Nested => {
    if (depth === shape.length) return values[next++]!;
    return Array.from({ length: shape[depth]! }, () => build(depth + 1));
  };
  return build(0);
}
