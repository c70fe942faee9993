// Names the skipped and failed tests of a vitest json report, and prints the closing line of .ci/run.
// Usage: node .ci/summary.mjs report.json exit-status-of-vitest
import { readFileSync } from "node:fs";

const [path, status] = process.argv.slice(2);
const text = readFileSync(path, "utf8");
if (text === "") {
  console.log("the tests ended without a report");
  console.log("0 passed, 1 failed, 0 skipped");
  process.exit(1);
}
const cases = JSON.parse(text).testResults.flatMap((file) =>
  file.assertionResults.length > 0
    ? file.assertionResults.map((test) => ({ name: test.fullName.trim(), status: test.status, file: file.name }))
    : [{ name: "(the file could not be loaded)", status: file.status, file: file.name }],
);
const root = `${process.cwd()}/`;
const of = (...kinds) => cases.filter((test) => kinds.includes(test.status));
const failed = of("failed");
const passed = of("passed");
// What was skipped for want of a GPU and passed on a software device was run.
const key = ({ file, name }) => `${file}:${name.replace(" [skipped: no GPU]", "")}`;
const ran = new Set([...passed, ...failed].map(key));
const skipped = cases.filter((test) => !failed.includes(test) && !passed.includes(test) && !ran.has(key(test)));
for (const test of skipped) console.log(`skipped: ${test.file.replace(root, "")}: ${test.name}`);
for (const test of failed) console.log(`failed: ${test.file.replace(root, "")}: ${test.name}`);
const failures = failed.length > 0 || Number(status) === 0 ? failed.length : 1;
console.log(`${passed.length} passed, ${failures} failed, ${skipped.length} skipped`);
process.exitCode = failures > 0 ? 1 : 0;
