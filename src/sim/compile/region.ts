import { type Ending, successors } from "./fragments.ts";

/** Fragments that reach each other without a collective instruction in between: what becomes one function. */
export interface Region {
  /** Fragments `first` up to but not including `end`. */
  readonly first: number;
  readonly end: number;
  /** Where lanes may begin: the kernel's first fragment, those behind collective instructions, and resumptions. */
  readonly entries: readonly number[];
  /** Fragments that lanes get to only by stopping and being run again; of all regions. */
  readonly resumptions: ReadonlySet<number>;
}

/** Where a lane goes on inside its region. */
export function innerSuccessors(region: Pick<Region, "resumptions">, ending: Ending): number[] {
  return successors(ending).filter((f) => !region.resumptions.has(f));
}
