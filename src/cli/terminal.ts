/** Plain text unless the stream is a terminal that takes colours (NO_COLOR is honoured by Node's own check). */
function styled(stream: NodeJS.WriteStream, code: number, text: string): string {
  return stream.isTTY && stream.hasColors?.() ? `\u001b[${code}m${text}\u001b[0m` : text;
}

export const dim = (text: string, stream: NodeJS.WriteStream = process.stdout): string => styled(stream, 2, text);
export const bold = (text: string, stream: NodeJS.WriteStream = process.stdout): string => styled(stream, 1, text);

export function formatBytes(bytes: number): string {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${value >= 100 || unit === 0 ? value.toFixed(0) : value.toFixed(1)} ${units[unit]}`;
}

/**
 * A progress bar on standard error, drawn at most ten times a second and only on a terminal; `end` wipes it. Loads that
 * finish within the first tenth of a second show nothing.
 */
export class ProgressBar {
  readonly #label: string;
  readonly #format: (amount: number) => string;
  readonly #start = performance.now();
  #drawn = performance.now();
  #visible = false;

  /** `format` writes amounts: bytes, unless told otherwise. */
  constructor(label: string, format = formatBytes) {
    this.#label = label;
    this.#format = format;
  }

  update(done: number, total: number): void {
    const now = performance.now();
    if (!process.stderr.isTTY || now - this.#drawn < 100) return;
    this.#drawn = now;
    this.#visible = true;
    const width = 28;
    const filled = Math.round((done / Math.max(1, total)) * width);
    const rate = done / ((now - this.#start) / 1000);
    const bar = `${"█".repeat(filled)}${"░".repeat(width - filled)}`;
    const [part, whole, speed] = [done, total, rate].map(this.#format);
    process.stderr.write(`\r${this.#label} ${bar} ${part} of ${whole}, ${speed}/s \u001b[K`);
  }

  end(): void {
    if (this.#visible) process.stderr.write("\r\u001b[K");
    this.#visible = false;
  }
}
