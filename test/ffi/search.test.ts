import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { LibraryError } from "../../src/base/errors.ts";
import type { FfiEngine, NativeLibrary } from "../../src/ffi/engine.ts";
import { findLibrary, openLibrary } from "../../src/ffi/library.ts";
import { libraryCandidates, type SearchEnvironment } from "../../src/ffi/search.ts";

/** A machine that has just these files. */
function machine(files: readonly string[], overrides: Partial<SearchEnvironment> = {}): SearchEnvironment {
  const windows = overrides.platform === "win32";
  const separator = windows ? "\\" : "/";
  return {
    platform: "linux",
    arch: "x64",
    explicit: undefined,
    cudaHome: undefined,
    pythonPrefixes: [],
    pathFolders: [],
    home: windows ? "C:\\Users\\u" : "/home/u",
    list: (folder) => {
      const inside = files.filter((f) => f.startsWith(folder + separator));
      return [...new Set(inside.map((f) => f.slice(folder.length + 1).split(separator)[0]!))];
    },
    ...overrides,
  };
}

const files = (...args: Parameters<typeof libraryCandidates>): string[] =>
  libraryCandidates(...args).map((c) => c.file);

describe("candidates on Linux", () => {
  test("the driver: by soname, then where drivers are installed, never a toolkit's stub", () => {
    const wsl = machine(["/usr/lib/wsl/lib/libcuda.so.1", "/usr/local/cuda/lib64/stubs/libcuda.so"], {
      cudaHome: "/usr/local/cuda",
    });
    expect(libraryCandidates("cuda", wsl)).toEqual([
      { file: "libcuda.so.1", source: "loader path" },
      { file: "libcuda.so", source: "loader path" },
      { file: "/usr/lib/wsl/lib/libcuda.so.1", source: "WSL" },
    ]);
    const arm = machine(["/usr/lib/aarch64-linux-gnu/libcuda.so.1"], { arch: "arm64" });
    expect(files("cuda", arm)).toEqual(["libcuda.so.1", "libcuda.so", "/usr/lib/aarch64-linux-gnu/libcuda.so.1"]);
  });

  test("an explicit file replaces the search", () => {
    const explicit = machine(["/usr/lib/wsl/lib/libcuda.so.1"], { explicit: "/opt/my/libcuda.so" });
    expect(libraryCandidates("cuda", explicit)).toEqual([
      { file: "/opt/my/libcuda.so", source: "LLCUDA_CUDA_LIBRARY" },
    ]);
  });

  test("cuBLASLt: loader path, CUDA_HOME, installed toolkits newest first", () => {
    const toolkits = machine(
      [
        "/opt/cuda/lib64/libcublasLt.so.12",
        "/usr/local/cuda-12.8/lib64/libcublasLt.so.12",
        "/usr/local/cuda-13.0/lib64/libcublasLt.so.13",
        "/usr/local/cuda-9.2/lib64/libcublasLt.so.9",
      ],
      { cudaHome: "/opt/cuda" },
    );
    expect(files("cublaslt", toolkits)).toEqual([
      "libcublasLt.so.13",
      "libcublasLt.so.12",
      "libcublasLt.so.11",
      "/opt/cuda/lib64/libcublasLt.so.12",
      "/usr/local/cuda-13.0/lib64/libcublasLt.so.13",
      "/usr/local/cuda-12.8/lib64/libcublasLt.so.12",
    ]);
  });

  test("cuBLASLt from pip: active environment, then python3 on PATH, then the user's packages; both layouts", () => {
    const pip = machine(
      [
        "/opt/torch/.venv/bin/python3",
        "/opt/torch/.venv/lib/python3.12/site-packages/nvidia/cu13/lib/libcublasLt.so.13",
        "/home/u/.local/lib/python3.10/site-packages/nvidia/cublas/lib/libcublasLt.so.11",
        "/srv/venv/lib/python3.11/site-packages/nvidia/cublas/lib/libcublasLt.so.12",
        "/srv/conda/lib/libcublasLt.so.12",
        "/bin/ls",
      ],
      { pythonPrefixes: ["/srv/venv", "/srv/conda"], pathFolders: ["/bin", "/opt/torch/.venv/bin"] },
    );
    expect(libraryCandidates("cublaslt", pip).slice(3)).toEqual([
      {
        file: "/srv/venv/lib/python3.11/site-packages/nvidia/cublas/lib/libcublasLt.so.12",
        source: "pip in /srv/venv",
      },
      { file: "/srv/conda/lib/libcublasLt.so.12", source: "environment /srv/conda" },
      {
        file: "/opt/torch/.venv/lib/python3.12/site-packages/nvidia/cu13/lib/libcublasLt.so.13",
        source: "pip in /opt/torch/.venv",
      },
      {
        file: "/home/u/.local/lib/python3.10/site-packages/nvidia/cublas/lib/libcublasLt.so.11",
        source: "pip in /home/u/.local",
      },
    ]);
  });

  test("libraries newer than the driver are not looked for", () => {
    expect(files("cublaslt", machine([], { newestMajor: 12 }))).toEqual(["libcublasLt.so.12", "libcublasLt.so.11"]);
  });
});

describe("candidates on Windows", () => {
  test("the driver", () => {
    const windows = machine(["C:\\Windows\\System32\\nvcuda.dll"], { platform: "win32" });
    expect(files("cuda", windows)).toEqual(["nvcuda.dll", "C:\\Windows\\System32\\nvcuda.dll"]);
  });

  test("cuBLASLt: toolkits of both layouts, pip in a virtual environment and beside python.exe", () => {
    const windows = machine(
      [
        "C:\\CUDA\\bin\\x64\\cublasLt64_13.dll",
        "C:\\Program Files\\NVIDIA GPU Computing Toolkit\\CUDA\\v12.8\\bin\\cublasLt64_12.dll",
        "C:\\venv\\Scripts\\python.exe",
        "C:\\venv\\Lib\\site-packages\\nvidia\\cublas\\bin\\cublasLt64_12.dll",
        "C:\\Python312\\python.exe",
        "C:\\Python312\\Lib\\site-packages\\nvidia\\cu13\\bin\\x86_64\\cublasLt64_13.dll",
      ],
      { platform: "win32", cudaHome: "C:\\CUDA", pathFolders: ["C:\\venv\\Scripts", "C:\\Python312"] },
    );
    expect(files("cublaslt", windows)).toEqual([
      "cublasLt64_13.dll",
      "cublasLt64_12.dll",
      "cublasLt64_11.dll",
      "C:\\CUDA\\bin\\x64\\cublasLt64_13.dll",
      "C:\\Program Files\\NVIDIA GPU Computing Toolkit\\CUDA\\v12.8\\bin\\cublasLt64_12.dll",
      "C:\\venv\\Lib\\site-packages\\nvidia\\cublas\\bin\\cublasLt64_12.dll",
      "C:\\Python312\\Lib\\site-packages\\nvidia\\cu13\\bin\\x86_64\\cublasLt64_13.dll",
    ]);
  });

  test("NCCL does not exist there", () => {
    expect(files("nccl", machine([], { platform: "win32" }))).toEqual([]);
    expect(files("nccl", machine([]))).toEqual(["libnccl.so.2"]);
  });
});

/** Opens the files that a test says exist. */
function loader(...existing: string[]): FfiEngine {
  const open = (file: string): NativeLibrary => {
    if (!existing.includes(file)) throw new Error(`${file}: cannot open shared object file`);
    return { path: file, bind: () => undefined };
  };
  return { name: "koffi", open } as FfiEngine;
}

describe("opening", () => {
  test("the first candidate that opens wins, and the report says what happened to the others", () => {
    const environment = machine([]);
    const found = findLibrary("cublaslt", loader("libcublasLt.so.12"), { environment });
    expect(found.library?.path).toBe("libcublasLt.so.12");
    expect(found.source).toBe("loader path");
    expect(found.attempts.map((a) => a.problem)).toEqual([
      "libcublasLt.so.13: cannot open shared object file",
      undefined,
    ]);
  });

  test("nothing found: LibraryError with every path in order, the loader's words and the advice", () => {
    const folder = mkdtempSync(path.join(tmpdir(), "llcuda-search-"));
    const broken = path.join(folder, "libcuda.so.1");
    writeFileSync(broken, "not a library");
    process.env.LLCUDA_CUDA_LIBRARY = broken;
    try {
      openLibrary("cuda", loader(), "install the driver");
      expect("opened").toBe("not opened");
    } catch (error) {
      expect(error instanceof LibraryError).toBe(true);
      expect((error as LibraryError).tried).toEqual([broken]);
      expect((error as Error).message).toBe(
        `cuda: no library found, tried ${broken} (${broken}: cannot open shared object file); install the driver`,
      );
    } finally {
      delete process.env.LLCUDA_CUDA_LIBRARY;
      rmSync(folder, { recursive: true });
    }
  });
});
