import { stripVTControlCharacters } from "node:util";

/** A test that failed, and what its runner said. */
export interface Failure {
  readonly name: string;
  /** Without the runner's colours; empty where it said nothing. */
  readonly message: string;
}

/** What one test file did in one run. */
export interface FileResult {
  /** Relative to the repository, with `/`. */
  readonly file: string;
  readonly passed: number;
  readonly failed: readonly Failure[];
  readonly skipped: readonly string[];
}

type Status = "passed" | "failed" | "skipped";

interface Case {
  readonly file: string;
  readonly name: string;
  readonly status: Status;
  readonly message?: string | undefined;
}

function collect(cases: Iterable<Case>): FileResult[] {
  const files = new Map<string, { file: string; passed: number; failed: Failure[]; skipped: string[] }>();
  for (const { file, name, status, message } of cases) {
    const entry = files.get(file) ?? { file, passed: 0, failed: [], skipped: [] };
    files.set(file, entry);
    if (status === "passed") entry.passed++;
    else if (status === "skipped") entry.skipped.push(name);
    else entry.failed.push({ name, message: stripVTControlCharacters(message ?? "").trim() });
  }
  return [...files.values()].sort((a, b) => (a.file < b.file ? -1 : 1));
}

function relative(path: string, root: string): string {
  const normal = path.replaceAll("\\", "/");
  const base = root.replaceAll("\\", "/");
  return normal.startsWith(base) ? normal.slice(base.length) : normal.replace(/^\.\//, "");
}

interface VitestReport {
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message?: string;
    readonly assertionResults: readonly {
      readonly fullName: string;
      readonly status: string;
      readonly failureMessages?: readonly string[];
    }[];
  }[];
}

/** Reads vitest's json report. A file that could not be loaded counts as one failure. */
export function readVitest(text: string, root: string): FileResult[] {
  const report = JSON.parse(text) as VitestReport;
  return collect(
    report.testResults.flatMap((r) => {
      const file = relative(r.name, root);
      if (r.assertionResults.length === 0 && r.status === "failed") {
        return [{ file, name: "(the file itself)", status: "failed" as const, message: r.message }];
      }
      return r.assertionResults.map((a) => ({
        file,
        name: a.fullName.trim(),
        status: a.status === "passed" || a.status === "failed" ? a.status : ("skipped" as const),
        message: a.failureMessages?.join("\n"),
      }));
    }),
  );
}

/** Reads the junit report of `bun test`. */
export function readJunit(text: string, root: string): FileResult[] {
  const cases: Case[] = [];
  for (const [, attributes, body] of text.matchAll(/<testcase\b([^>]*?)(?:\/>|>([\s\S]*?)<\/testcase>)/g)) {
    const attribute = (name: string, of = attributes!): string =>
      unescapeXml(new RegExp(`\\b${name}="([^"]*)"`).exec(of)?.[1] ?? "");
    const failure = /<(?:failure|error)\b[^>]*/.exec(body ?? "")?.[0];
    const status = body === undefined ? "passed" : failure !== undefined ? "failed" : "skipped";
    cases.push({
      file: relative(attribute("file"), root),
      name: `${attribute("classname")} ${attribute("name")}`.trim(),
      status,
      message: failure && attribute("message", failure),
    });
  }
  return collect(cases);
}

const entities: Record<string, string> = { lt: "<", gt: ">", amp: "&", quot: '"', apos: "'" };

function unescapeXml(text: string): string {
  return text
    .replace(/&#(\d+);/g, (_, code: string) => String.fromCodePoint(Number(code)))
    .replace(/&(lt|gt|amp|quot|apos);/g, (_, name: string) => entities[name]!);
}
