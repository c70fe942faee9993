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
  readonly #start = performance.now();
  #drawn = performance.now();
  #visible = false;

  constructor(label: string) {
    this.#label = label;
  }

  update(doneBytes: number, totalBytes: number): void {
    const now = performance.now();
    if (!process.stderr.isTTY || now - this.#drawn < 100) return;
    this.#drawn = now;
    this.#visible = true;
    const width = 28;
    const filled = Math.round((doneBytes / Math.max(1, totalBytes)) * width);
    const rate = doneBytes / ((now - this.#start) / 1000);
    const bar = `${"█".repeat(filled)}${"░".repeat(width - filled)}`;
    process.stderr.write(
      `\r${this.#label} ${bar} ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}, ${formatBytes(rate)}/s \u001b[K`,
    );
  }

  end(): void {
    if (this.#visible) process.stderr.write("\r\u001b[K");
    this.#visible = false;
  }
}
