import path from "node:path";

/** The C libraries that llcuda opens, by the name in `LLCUDA_<NAME>_LIBRARY`. */
export type LibraryName = "cuda" | "cublaslt" | "nccl";

/** What the order of candidates depends on; the process's own is made in src/ffi/library.ts. */
export interface SearchEnvironment {
  readonly platform: NodeJS.Platform;
  readonly arch: string;
  /** LLCUDA_<NAME>_LIBRARY: a file that is used instead of a search. */
  readonly explicit: string | undefined;
  readonly cudaHome: string | undefined;
  /** Active virtual and conda environments. */
  readonly pythonPrefixes: readonly string[];
  /** The folders of PATH. */
  readonly pathFolders: readonly string[];
  readonly home: string;
  /** Names in a folder; empty when there is none. */
  list(folder: string): readonly string[];
  /** The newest major version to look for: a library newer than the driver's CUDA version does not run. */
  readonly newestMajor?: number;
}

/** One place to look. A `file` without a folder is left to the system's loader. */
export interface Candidate {
  readonly file: string;
  /** Where this comes from, for people: "loader path", "CUDA_HOME", "pip in /home/u/.venv". */
  readonly source: string;
}

const majors = [13, 12, 11];

/** Where `name` may be, best first. Pure: the file system is seen through `environment.list` only. */
export function libraryCandidates(name: LibraryName, environment: SearchEnvironment): Candidate[] {
  if (environment.explicit !== undefined) {
    return [{ file: environment.explicit, source: `LLCUDA_${name.toUpperCase()}_LIBRARY` }];
  }
  const files = fileNames(name, environment);
  const candidates = files.map((file) => ({ file, source: "loader path" }));
  const folders =
    name === "cuda" ? driverFolders(environment) : [...toolkitFolders(environment), ...pipFolders(environment)];
  const { join } = pathFor(environment);
  for (const { folder, source } of folders) {
    // Folders are searched for what they hold: a listing is cheaper than a failing load, and reports stay short.
    const held = new Set(environment.list(folder));
    for (const file of files) if (held.has(file)) candidates.push({ file: join(folder, file), source });
  }
  return candidates;
}

function fileNames(name: LibraryName, { platform, newestMajor = majors[0]! }: SearchEnvironment): string[] {
  const windows = platform === "win32";
  if (name === "cuda") return windows ? ["nvcuda.dll"] : ["libcuda.so.1", "libcuda.so"];
  if (name === "nccl") return windows ? [] : ["libnccl.so.2"];
  return majors
    .filter((major) => major <= newestMajor)
    .map((major) => (windows ? `cublasLt64_${major}.dll` : `libcublasLt.so.${major}`));
}

interface Folder {
  readonly folder: string;
  readonly source: string;
}

/** Where drivers put libcuda when the loader path does not say so. Never a toolkit's `stubs` folder. */
function driverFolders({ platform, arch }: SearchEnvironment): Folder[] {
  if (platform === "win32") return [{ folder: "C:\\Windows\\System32", source: "Windows" }];
  const triple = arch === "arm64" ? "aarch64-linux-gnu" : "x86_64-linux-gnu";
  return [
    { folder: "/usr/lib/wsl/lib", source: "WSL" },
    { folder: `/usr/lib/${triple}`, source: "system" },
    { folder: "/usr/lib64", source: "system" },
    { folder: "/usr/local/nvidia/lib64", source: "container runtime" },
    { folder: "/run/opengl-driver/lib", source: "NixOS" },
  ];
}

function toolkitFolders(environment: SearchEnvironment): Folder[] {
  const { platform, arch, cudaHome } = environment;
  const { join } = pathFor(environment);
  const windows = platform === "win32";
  const inside = windows
    ? [join("bin", "x64"), "bin"]
    : ["lib64", "lib", join("targets", arch === "arm64" ? "sbsa-linux" : "x86_64-linux", "lib")];
  const homes: Folder[] = cudaHome === undefined ? [] : [{ folder: cudaHome, source: "CUDA_HOME" }];
  const root = windows ? "C:\\Program Files\\NVIDIA GPU Computing Toolkit\\CUDA" : "/usr/local";
  const installed = environment.list(root).filter((entry) => (windows ? /^v\d/ : /^cuda(-\d|$)/).test(entry));
  // Newest first: cuda-13.0, cuda-12.8, …, and the plain link last.
  installed.sort((a, b) => b.localeCompare(a, "en", { numeric: true }));
  for (const entry of installed) homes.push({ folder: join(root, entry), source: `toolkit ${join(root, entry)}` });
  return homes.flatMap(({ folder, source }) => inside.map((sub) => ({ folder: join(folder, sub), source })));
}

/** The libraries that pip installs: `nvidia/cu13/lib` since CUDA 13, `nvidia/<library>/lib` before; and conda's own. */
function pipFolders(environment: SearchEnvironment): Folder[] {
  const { platform, arch } = environment;
  const { join } = pathFor(environment);
  const windows = platform === "win32";
  const folders: Folder[] = [];
  for (const prefix of pythonPrefixes(environment)) {
    const conda = windows ? join(prefix, "Library", "bin") : join(prefix, "lib");
    if (environment.pythonPrefixes.includes(prefix)) folders.push({ folder: conda, source: `environment ${prefix}` });
    for (const site of sitePackages(prefix, environment)) {
      const nvidia = join(site, "nvidia");
      for (const entry of environment.list(nvidia)) {
        const inside = windows ? [join("bin", arch === "arm64" ? "arm64" : "x86_64"), "bin"] : ["lib"];
        for (const sub of inside) folders.push({ folder: join(nvidia, entry, sub), source: `pip in ${prefix}` });
      }
    }
  }
  return folders;
}

/** Active environments first, then those whose `python3` is on PATH, then the user's own packages. */
function pythonPrefixes(environment: SearchEnvironment): string[] {
  const { platform, pathFolders, home } = environment;
  const { dirname, join } = pathFor(environment);
  const windows = platform === "win32";
  const prefixes = new Set(environment.pythonPrefixes);
  for (const folder of pathFolders) {
    if (!environment.list(folder).some((entry) => (windows ? entry === "python.exe" : entry === "python3"))) continue;
    // Linux: <prefix>/bin/python3. Windows: <prefix>\python.exe, or <prefix>\Scripts\python.exe in an environment.
    prefixes.add(!windows || /[\\/]scripts$/i.test(folder) ? dirname(folder) : folder);
  }
  prefixes.add(windows ? join(home, "AppData", "Roaming", "Python") : join(home, ".local"));
  return [...prefixes];
}

function sitePackages(prefix: string, environment: SearchEnvironment): string[] {
  const { join } = pathFor(environment);
  if (environment.platform === "win32") {
    const versions = environment.list(prefix).filter((entry) => /^Python3/.test(entry));
    return [join(prefix, "Lib", "site-packages"), ...versions.map((v) => join(prefix, v, "site-packages"))];
  }
  const lib = join(prefix, "lib");
  const pythons = environment.list(lib).filter((entry) => /^python3/.test(entry));
  pythons.sort((a, b) => b.localeCompare(a, "en", { numeric: true }));
  return pythons.flatMap((python) => [join(lib, python, "site-packages"), join(lib, python, "dist-packages")]);
}

/** Path arithmetic of the platform that is searched, which a test may choose. */
function pathFor({ platform }: SearchEnvironment): path.PlatformPath {
  return platform === "win32" ? path.win32 : path.posix;
}
