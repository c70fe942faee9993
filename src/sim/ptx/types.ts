/** Element types of PTX by name, without the dot. */
export interface PtxType {
  readonly name: string;
  readonly bytes: number;
  readonly kind: "predicate" | "bits" | "unsigned" | "signed" | "float";
  /** The type of the WebAssembly value that holds it; narrow integers are kept zero-extended. */
  readonly value: "i32" | "i64" | "f32" | "f64";
}

function type(name: string, bytes: number, kind: PtxType["kind"], value: PtxType["value"]): [string, PtxType] {
  return [name, { name, bytes, kind, value }];
}

const types: ReadonlyMap<string, PtxType> = new Map([
  type("pred", 1, "predicate", "i32"),
  ...[1, 2, 4, 8].flatMap((bytes) => {
    const value = bytes === 8 ? "i64" : "i32";
    return [
      type(`b${8 * bytes}`, bytes, "bits", value),
      type(`u${8 * bytes}`, bytes, "unsigned", value),
      type(`s${8 * bytes}`, bytes, "signed", value),
    ];
  }),
  type("f32", 4, "float", "f32"),
  type("f64", 8, "float", "f64"),
  // Packed and 16-bit floats are carried as bits.
  type("f16", 2, "float", "i32"),
  type("bf16", 2, "float", "i32"),
  type("f16x2", 4, "float", "i32"),
  type("bf16x2", 4, "float", "i32"),
  type("tf32", 4, "float", "i32"),
]);

export function ptxType(name: string): PtxType | undefined {
  return types.get(name);
}
