/**
 * Every error that llcuda throws on purpose. A message is one sentence that names the thing, what was found,
 * what was expected and what to do. `code` is stable and machine-readable; messages may be reworded.
 */
export class LlcudaError extends Error {
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** Operands whose shapes do not fit together; the message holds every shape. */
export class ShapeError extends LlcudaError {
  constructor(message: string) {
    super("SHAPE", message);
  }
}

/** Operands whose element types do not fit together, or that a kernel does not exist for. */
export class DTypeError extends LlcudaError {
  constructor(message: string) {
    super("DTYPE", message);
  }
}

/** An option, argument or environment variable with an unusable value. */
export class ArgumentError extends LlcudaError {
  constructor(message: string) {
    super("ARGUMENT", message);
  }
}

/** Use of something after `dispose()`, or in an order that its owner forbids. */
export class StateError extends LlcudaError {
  constructor(message: string) {
    super("STATE", message);
  }
}

/** A file or folder that is missing or cannot be read. */
export class FileError extends LlcudaError {
  readonly path: string;

  constructor(path: string, message: string, options?: ErrorOptions) {
    super("FILE", message, options);
    this.path = path;
  }
}

/** A file whose content is malformed. `byteOffset` is where, when that is known. */
export class FormatError extends LlcudaError {
  readonly file: string;
  readonly byteOffset: number | undefined;

  constructor(file: string, message: string, options?: ErrorOptions & { byteOffset?: number }) {
    super("FORMAT", message, options);
    this.file = file;
    this.byteOffset = options?.byteOffset;
  }
}

/** Something well-formed that this version does not support: an architecture, a quantization, a feature. */
export class UnsupportedError extends LlcudaError {
  constructor(message: string) {
    super("UNSUPPORTED", message);
  }
}

/** A prompt, or a prompt and what should follow it, does not fit the model's context. */
export class ContextLengthError extends LlcudaError {
  readonly tokens: number;
  readonly contextLength: number;

  constructor(message: string, tokens: number, contextLength: number) {
    super("CONTEXT_LENGTH", message);
    this.tokens = tokens;
    this.contextLength = contextLength;
  }
}

/** No usable device: no driver, no GPU, or an index that does not exist. */
export class DeviceError extends LlcudaError {
  constructor(message: string, options?: ErrorOptions) {
    super("DEVICE", message, options);
  }
}

/** A shared library that could not be opened, or a symbol that it lacks. `tried` lists the paths in order. */
export class LibraryError extends LlcudaError {
  readonly library: string;
  readonly tried: readonly string[];

  constructor(library: string, message: string, tried: readonly string[] = [], options?: ErrorOptions) {
    super("LIBRARY", message, options);
    this.library = library;
    this.tried = tried;
  }
}

/** A driver call that failed: `symbol` is the C function, `status` the CUresult, `statusName` its name. */
export class CudaError extends LlcudaError {
  readonly symbol: string;
  readonly status: number;
  readonly statusName: string;

  constructor(symbol: string, status: number, statusName: string, message: string) {
    super("CUDA", message);
    this.symbol = symbol;
    this.status = status;
    this.statusName = statusName;
  }
}

/** Device or pinned memory ran out; says what was asked, what is free and what the pool holds. */
export class OutOfMemoryError extends LlcudaError {
  readonly wantedBytes: number;
  readonly freeBytes: number;

  constructor(message: string, wantedBytes: number, freeBytes: number) {
    super("OUT_OF_MEMORY", message);
    this.wantedBytes = wantedBytes;
    this.freeBytes = freeBytes;
  }
}

/** PTX that the driver refused; `log` is the compiler's own text. */
export class ModuleError extends LlcudaError {
  readonly log: string;

  constructor(message: string, log: string, options?: ErrorOptions) {
    super("MODULE", message, options);
    this.log = log;
  }
}
