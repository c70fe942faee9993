import { fileURLToPath } from "node:url";

/** The repository, with a trailing separator. */
export const root: string = fileURLToPath(new URL("../../", import.meta.url));
export const kernelRoot = `${root}src/kernels/`;
