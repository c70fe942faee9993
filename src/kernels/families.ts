/** Every module that exports kernel specifications, one line each; the build collects the specifications from here. */
export * as fill from "./fill/fill.ts";
