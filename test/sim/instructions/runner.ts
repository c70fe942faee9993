import { type DevicePtr, ptrAdd } from "../../../src/driver/api.ts";
import type { Device } from "../../../src/driver/device.ts";
import type { DeviceBuffer } from "../../../src/driver/memory.ts";
import type { PinnedBuffer } from "../../../src/driver/pinned.ts";
import type { InstructionCase } from "./case.ts";
import { kernelText, outputSizes } from "./kernel.ts";
import { operandsOf, rowCount } from "./operands.ts";

/** More than the operands and results of any case. */
const arenaBytes = 2 ** 21;

/** Runs cases of the catalogue on a device, in memory that it keeps. */
export class InstructionRunner implements Disposable {
  readonly device: Device;
  readonly #memory: DeviceBuffer;
  readonly #staging: PinnedBuffer;

  constructor(device: Device) {
    this.device = device;
    this.#memory = device.allocate(arenaBytes);
    this.#staging = device.allocatePinned(arenaBytes);
  }

  /** The results of all rows, one array for each output. Throws what the device throws. */
  run(instruction: InstructionCase): Uint8Array[] {
    const { device } = this;
    const operands = operandsOf(instruction.inputs);
    const sizes = outputSizes(instruction);
    const text = kernelText(instruction);
    using module = device.loadModule(new TextEncoder().encode(text), instruction.name);
    const fn = module.getFunction("k");
    const pointers: DevicePtr[] = [];
    let used = 0;
    const place = (bytes: number): number => {
      const at = used;
      pointers.push(ptrAdd(this.#memory.ptr, at));
      used = Math.ceil((at + bytes) / 256) * 256;
      return at;
    };
    const host = new Uint8Array(this.#staging.buffer);
    for (const operand of operands) host.set(operand, place(operand.byteLength));
    const inputBytes = used;
    const offsets = sizes.map(place);
    if (used > arenaBytes) throw new Error(`${instruction.name}: ${used} bytes of operands and results`);
    // What is not written is found: no result is 0xa5 in every byte.
    host.fill(0xa5, inputBytes, used);
    device.stream.copyToDevice(this.#memory.ptr, this.#staging, 0, used);
    const argBytes = 8 * pointers.length;
    const args = device.api.scratch(argBytes);
    const view = new DataView(args.buffer);
    pointers.forEach((pointer, i) => {
      view.setBigUint64(8 * i, pointer, true);
    });
    const { block } = instruction;
    const shape = { grid: [rowCount / block, 1, 1], block: [block, 1, 1], sharedBytes: 0 } as const;
    fn.launch(device.stream, shape, args, argBytes);
    device.stream.copyToHost(this.#staging, 0, this.#memory.ptr, used);
    device.stream.synchronize();
    return sizes.map((bytes, i) => host.slice(offsets[i], offsets[i]! + bytes));
  }

  [Symbol.dispose](): void {
    this.#memory.dispose();
    this.#staging.dispose();
  }
}
