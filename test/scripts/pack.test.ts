import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { checkTarball, nativesIn } from "../../scripts/pack/check.ts";
import { packStaged, stage } from "../../scripts/pack/stage.ts";

const folder = mkdtempSync(join(tmpdir(), "llcuda-pack-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("the tarball installs without network, cache and scripts; the command answers and the types compile", () => {
  const staged = join(folder, "stage");
  stage(staged);
  const tarball = packStaged(staged, folder);
  checkTarball(tarball, folder);
  expect(nativesIn(join(folder, "app")).length).toBeGreaterThan(0);
}, 180_000);
