import { Command, InvalidArgumentError, Option } from "commander";
import { CudaError } from "../../base/errors.ts";
import type { Device } from "../../driver/device.ts";
import { exitCodes, reportError } from "../errors.ts";
import { collect, examples } from "../options.ts";
import type { SortKey } from "../sim/profile-report.ts";
import type { WatchFlags } from "../sim/watched-run.ts";

interface Flags extends WatchFlags {
  readonly entry?: string;
  readonly target?: string;
  readonly grid: readonly [number, number, number];
  readonly block: readonly [number, number, number];
  readonly shared?: number;
  readonly arg?: string[];
  readonly print?: string[];
  readonly save?: string[];
  readonly json?: boolean;
  readonly top?: number;
  readonly sort?: SortKey;
}

/** Columns of a profile; see profile-report.ts, which is read when a profile is made. */
const sortNames: readonly SortKey[] = ["cost", "instructions", "sectors", "passes", "conflicts", "atomics", "line"];

/** In cuda.h, statuses from here on are what a running kernel did wrong; those below refuse the launch. */
const firstKernelFault = 700;

export function simCommand(): Command {
  return new Command("sim").description("run kernels on the software device, one at a time").addCommand(runCommand());
}

function runCommand(): Command {
  return new Command("run")
    .description("launch a kernel of a PTX file with given arguments; exit code 1 when it does something wrong")
    .argument("<ptx>", "PTX text, as nvcc -ptx writes it, or such text as this package ships it (.br)")
    .optionsGroup("What is launched:")
    .requiredOption("-g, --grid <sizes>", "blocks: 64, or 8x8, or 4x4x2", sizes)
    .requiredOption("-b, --block <sizes>", "threads of a block, in the same way", sizes)
    .option("-a, --arg <argument>", "the parameters in order: f32:2.5, x=f32:1024:random, x=@x.npy, …", collect)
    .option("-e, --entry <name>", "the kernel (default: the only one of the file)")
    .option("--shared <bytes>", "dynamic shared memory of a block", count)
    .option("--target <target>", "sm_60 to sm_89 (default: the oldest that runs the PTX)")
    .optionsGroup("What is shown:")
    .option("-p, --print <buffer>", "print a buffer afterwards, or its begin: out, out:16", collect)
    .option("--save <buffer=file>", "write a buffer to a file afterwards, .npy or raw bytes", collect)
    .option("--json", "print everything as JSON")
    .optionsGroup("How the kernel is watched; one of these at a time:")
    .option("--profile", "count instructions, memory traffic and bank conflicts, by line")
    .option("--top <lines>", "lines of each table of the profile (default: 15; 0 for all)", count)
    .addOption(new Option("--sort <by>", "what the profile's lines are sorted by (default: cost)").choices(sortNames))
    .option("--trace <thread>", "show what a thread does, with values and addresses: 5, or 5,2,0", place)
    .option("--trace-block <block>", "the thread's block (default: 0,0,0)", place)
    .option("--trace-limit <count>", "show so many instructions (default: 200)", count)
    .option("--trace-skip <count>", "after leaving out so many", count)
    .option("--check", "look for wrong accesses, reads of unwritten memory, races and divergent barriers")
    .addHelpText(
      "after",
      `
A buffer is NAME=TYPE:COUNT[:CONTENT], such as out=f32:1024 or x=f16:32x64:random. Types: f16, bf16, f32, f64, i8 to i64,
u8 to u64. Contents: zeros (the default), iota, random, random:SEED, a number, unset. NAME=@FILE.npy and NAME=TYPE@FILE read a file;
a NAME alone is that buffer again.
${examples("sim run saxpy.ptx -g 4 -b 256 -a y=f32:1024:1 -a x=f32:1024:iota -a f32:2 -a u32:1024 --print y:8")}`,
    )
    .action(run);
}

async function run(path: string, flags: Flags): Promise<void> {
  const [{ parseKernelArguments }, { chooseSimTarget, readKernelFile }, { prepareRun }, watched, output] =
    await Promise.all([
      import("../sim/kernel-arguments.ts"),
      import("../sim/kernel-file.ts"),
      import("../sim/kernel-run.ts"),
      import("../sim/watched-run.ts"),
      import("../sim/run-output.ts"),
    ]);
  const kernel = readKernelFile(path, flags.entry);
  const target = chooseSimTarget(kernel, flags.target);
  const shape = { grid: flags.grid, block: flags.block, sharedBytes: flags.shared ?? 0 };
  const prepared = prepareRun(kernel, parseKernelArguments(flags.arg ?? []), shape);
  const trace = watched.traceOptions(flags, prepared);
  const wanted = output.parseOutputs(flags, prepared.buffers);
  using device = await openSimDevice(target, flags.check === true);
  const isFault = (error: unknown): error is CudaError =>
    error instanceof CudaError && error.status >= firstKernelFault;
  const result = watched.runWatched(device, prepared, { profile: flags.profile === true, trace }, isFault);
  (flags.json ? output.reportJson : output.reportText)({
    device: device.name,
    ptxPath: path,
    prepared,
    run: result,
    wanted,
    top: flags.top ?? 15,
    sort: flags.sort ?? "cost",
    traceSkip: trace?.skip ?? 0,
    traced: `block (${trace?.block ?? ""}) thread (${trace?.thread ?? ""})`,
  });
  if (!result.error) return;
  reportError(result.error);
  process.exitCode = exitCodes.failed;
}

async function openSimDevice(target: string, checks: boolean): Promise<Device> {
  const [{ openDevice, registerDevices }, { SimProvider }] = await Promise.all([
    import("../../driver/open.ts"),
    import("../../sim/provider.ts"),
  ]);
  registerDevices(new SimProvider(checks ? { checks } : {}));
  return openDevice(`sim:${target}`);
}

/** `8x4` as [8, 4, 1]. */
function sizes(text: string): readonly [number, number, number] {
  const [x = 0, y = 1, z = 1, more] = text.split(/[x,]/).map((size) => (/^\d{1,10}$/.test(size) ? Number(size) : 0));
  if (x < 1 || y < 1 || z < 1 || more !== undefined) {
    throw new InvalidArgumentError("it must be one to three sizes such as 64, 8x8 or 4x4x2");
  }
  return [x, y, z];
}

/** `5,2` as [5, 2, 0]: a place in a block or grid. */
function place(text: string): readonly [number, number, number] {
  if (!/^\d{1,9}([x,]\d{1,9}){0,2}$/.test(text)) {
    throw new InvalidArgumentError("it must be one to three numbers such as 5 or 5,2,0");
  }
  const [x = 0, y = 0, z = 0] = text.split(/[x,]/).map(Number);
  return [x, y, z];
}

function count(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError("it must be a whole number");
  return Number(text);
}
