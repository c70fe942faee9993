/**
 * Where everything lies in a simulated device's WebAssembly memory, in bytes. Each executor, which runs one block at a
 * time, has `executorBytes` of its own, laid out alike: these offsets count from its base, a global of the compiled code.
 * Device memory that can be allocated begins behind the executors, at `heap`.
 */
export const memoryMap = {
  /** i32 triples: ctaid, nctaid and ntid. */
  blockIndex: 4096,
  gridShape: 4096 + 16,
  blockShape: 4096 + 32,
  /** i64: the end of device memory; accesses at or above it leave the fast path. */
  limit: 4096 + 48,
  /** i32: shared memory of this launch, a multiple of 16. */
  sharedBytes: 4096 + 56,
  /** i32: dynamic shared memory of this launch. */
  dynamicSharedBytes: 4096 + 60,
  parameters: 8192,
  parameterBytes: 32 * 1024,
  /** 16 rows of 8 floats: the second factor of the matrix product under way. */
  matrix: 48 * 1024,
  shared: 64 * 1024,
  sharedCapacity: 256 * 1024,
  /** One area per warp of the running block: see `warpSlots`. */
  warps: 1024 * 1024,
  warpsEnd: 16 * 1024 * 1024,
  /** Frames of local memory, one per thread of the running block. */
  locals: 16 * 1024 * 1024,
  localsEnd: 48 * 1024 * 1024,
  /** Where shuffles keep the values of a warp: 32 of 4 bytes. */
  shuffle: 56 * 1024,
  executorBytes: 64 * 1024 * 1024,
  executors: 4,
  heap: 4 * 64 * 1024 * 1024,
} as const;

/** i32 arrays of 32 at the start of a warp's area; the kernel's registers follow at `registers`. */
export const warpSlots = {
  /** What each lane does next: a fragment, `waiting + collective`, or `exited`. */
  state: 0,
  threadX: 128,
  threadY: 256,
  threadZ: 384,
  /** The warp's number in its block, 32 times. */
  warp: 512,
  /** The lanes that have not exited, a mask; one value, kept by the regions. */
  live: 640,
  registers: 656,
} as const;

export const waiting = 0x40000000;
export const exited = 0x7fffffff;

/** Device addresses of device `ordinal` are its memory's offsets above this. */
export function deviceBase(ordinal: number): bigint {
  return 0x0700_0000_0000n + (BigInt(ordinal) << 36n);
}

/** Addresses at which kernels see pinned host memory. */
export const hostBase = 0x0400_0000_0000n;
/** Windows of generic addresses. */
export const sharedWindow = 0x0100_0000_0000n;
export const localWindow = 0x0200_0000_0000n;
export const windowBytes = 1n << 32n;

/** 4 GiB, all that 32-bit WebAssembly addresses reach. */
export const maximumPages = 65536;
