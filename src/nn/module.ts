import type { DType, DTypeLike } from "../base/dtype.ts";
import type { Device } from "../driver/device.ts";
import { QuantizedWeight } from "../tensor/quantized-weight.ts";
import { Tensor } from "../tensor/tensor.ts";

/**
 * A part of a network. Its public fields are the tree: a Tensor is a parameter, a QuantizedWeight one that stays as it is
 * stored, a Module a child, an array of Modules a list of children (`layers.0`, `layers.1`, …); other fields are settings. Names are the field names joined by dots, so a
 * module whose fields are named as in PyTorch has the names of the checkpoint.
 */
export abstract class Module implements Disposable {
  /** Every parameter below this module with its dotted name, depth first, in field order. */
  *namedParameters(prefix = ""): Generator<[string, Tensor]> {
    for (const [name, child] of members(this)) {
      const path = prefix ? `${prefix}.${name}` : name;
      if (child instanceof Tensor) yield [path, child];
      else if (child instanceof Module) yield* child.namedParameters(path);
    }
  }

  /** Every weight below this module that is stored quantized; they are no parameters, and `to` leaves them as they are. */
  *quantizedWeights(): Generator<QuantizedWeight> {
    for (const module of this.modules()) {
      for (const [, child] of members(module)) if (child instanceof QuantizedWeight) yield child;
    }
  }

  /** This module and every one below it, depth first. */
  *modules(): Generator<Module> {
    yield this;
    for (const [, child] of members(this)) if (child instanceof Module) yield* child.modules();
  }

  *parameters(): Generator<Tensor> {
    for (const [, tensor] of this.namedParameters()) yield tensor;
  }

  /** Bytes of all parameters, quantized ones as they are stored; one that is shared (a tied head) counts once. */
  get parameterBytes(): number {
    let bytes = 0;
    for (const tensor of new Set(this.parameters())) bytes += tensor.size * tensor.dtype.bytes;
    for (const weight of new Set(this.quantizedWeights())) bytes += weight.sizeBytes;
    return bytes;
  }

  get parameterCount(): number {
    let count = 0;
    for (const tensor of new Set(this.parameters())) count += tensor.size;
    for (const { shape } of new Set(this.quantizedWeights())) count += shape[0] * shape[1];
    return count;
  }

  /** Moves floating-point parameters to a dtype, or all to a device, in place; the old storage is disposed. */
  to(target: DTypeLike | Device): this {
    const moved = new Map<Tensor, Tensor>();
    replaceParameters(this, (old) => {
      let fresh = moved.get(old);
      if (!fresh) {
        fresh = isDType(target) && !old.dtype.isFloat ? old : old.to(target);
        moved.set(old, fresh);
      }
      return fresh;
    });
    for (const [old, fresh] of moved) if (old !== fresh) old.dispose();
    return this;
  }

  /** Frees every parameter. */
  dispose(): void {
    for (const weight of new Set(this.quantizedWeights())) weight.dispose();
    for (const tensor of new Set(this.parameters())) tensor.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function isDType(target: DTypeLike | Device): target is DTypeLike {
  return typeof target === "string" || "isFloat" in (target as DType);
}

function* members(module: Module): Generator<[string, Tensor | QuantizedWeight | Module]> {
  for (const [name, value] of Object.entries(module)) {
    if (value instanceof Tensor || value instanceof QuantizedWeight || value instanceof Module) yield [name, value];
    else if (Array.isArray(value)) {
      for (const [i, item] of value.entries()) if (item instanceof Module) yield [`${name}.${i}`, item];
    }
  }
}

function replaceParameters(module: Module, replace: (old: Tensor) => Tensor): void {
  const fields = module as unknown as Record<string, unknown>;
  for (const [name, value] of Object.entries(module)) {
    if (value instanceof Tensor) fields[name] = replace(value);
    else if (value instanceof Module) replaceParameters(value, replace);
    else if (Array.isArray(value)) {
      for (const item of value) if (item instanceof Module) replaceParameters(item, replace);
    }
  }
}
