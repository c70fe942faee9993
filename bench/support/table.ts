/** One line of results; a missing value prints as a dash. */
export type Row = Readonly<Record<string, string | number | undefined>>;

/** Columns in order of first appearance; numbers to three significant digits (all of them from 1000 on), right-aligned. */
export function formatTable(rows: readonly Row[]): string {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const columns = names.map((name) => {
    const cells = rows.map((row) => formatCell(row[name]));
    const numeric = rows.every((row) => typeof row[name] !== "string");
    const width = Math.max(name.length, ...cells.map((cell) => cell.length));
    const pad = (cell: string): string => (numeric ? cell.padStart(width) : cell.padEnd(width));
    return { head: pad(name), rule: "-".repeat(width), cells: cells.map(pad) };
  });
  const line = (cells: string[]): string => cells.join("  ").trimEnd();
  return [
    line(columns.map((c) => c.head)),
    line(columns.map((c) => c.rule)),
    ...rows.map((_, i) => line(columns.map((c) => c.cells[i]!))),
  ].join("\n");
}

export function formatCell(value: string | number | undefined): string {
  if (value === undefined) return "-";
  if (typeof value === "string") return value;
  if (!Number.isFinite(value) || Number.isInteger(value)) return String(value);
  const magnitude = Math.abs(value);
  if (magnitude >= 100) return value.toFixed(0);
  if (magnitude >= 10) return value.toFixed(1);
  return magnitude >= 1 ? value.toFixed(2) : value.toFixed(3);
}
