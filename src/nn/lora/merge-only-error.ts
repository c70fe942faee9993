import { UnsupportedError } from "../../base/errors.ts";

/** For an adapter that changes weights in a way that cannot be applied beside them. */
export class MergeOnlyError extends UnsupportedError {
  /** What the adapter does: "the adapter uses DoRA (use_dora)". */
  readonly reason: string;

  constructor(directory: string, reason: string) {
    super(
      `${directory}: ${reason}, which llcuda applies only by merging; load it with merge: true, or --merge on the command line, or write a merged model with "llcuda merge"`,
    );
    this.reason = reason;
  }
}
