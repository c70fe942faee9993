/** One line of the report. `slow` and `missing` are no failures: everything works without. */
export interface Finding {
  readonly section: string;
  readonly label: string;
  readonly status: "ok" | "slow" | "missing" | "failed";
  readonly detail: string;
}

/** What the examining process sends, one JSON object a line: what it is about to do, and what it found. */
export type Report = { readonly doing: string } | Finding;
