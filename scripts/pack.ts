/**
 * Makes the tarball that is released, and tries it out.
 *
 *   npm run pack                 koffi's native libraries for every supported platform are fetched and put in
 *     -- --platforms here        only that of this machine: nothing is downloaded
 *     -- --out folder            where the tarball goes (default: the checkout)
 *
 * `npm publish llcuda-<version>.tgz` publishes it. A plain `npm pack` works as well, and holds the native library of the
 * machine it ran on only.
 */
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { checkTarball, nativesIn } from "./pack/check.ts";
import { checkout, packStaged, releasePlatforms, stage } from "./pack/stage.ts";

const { values } = parseArgs({
  options: { platforms: { type: "string", default: "all" }, out: { type: "string", default: checkout } },
});
if (!["all", "here"].includes(values.platforms)) {
  throw new Error(`--platforms: expected all or here, got "${values.platforms}"`);
}
const folder = mkdtempSync(join(tmpdir(), "llcuda-pack-"));
try {
  stage(join(folder, "stage"), values.platforms === "all" ? releasePlatforms : undefined);
  const tarball = packStaged(join(folder, "stage"), resolve(values.out));
  checkTarball(tarball, folder);
  console.log(`${tarball}: ${(statSync(tarball).size / 2 ** 20).toFixed(1)} MiB`);
  console.log(
    `installs offline without scripts, answers, and its types compile; here it keeps ${nativesIn(join(folder, "app")).join(", ")}`,
  );
} finally {
  rmSync(folder, { recursive: true, force: true });
}
