import type { LaneEmitter } from "./lane.ts";

/** Code writers by instruction name, for instructions that a lane does alone. */
export type Emitters = Readonly<Record<string, (g: LaneEmitter) => void>>;
