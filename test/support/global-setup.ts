import { buildKTypeFixture } from "./k-type-fixture.ts";

/** What vitest runs before the tests. */
export async function setup(): Promise<void> {
  await buildKTypeFixture();
}
