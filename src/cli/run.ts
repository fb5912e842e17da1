/** `volt run`: boots a guest with this terminal as its console. */
import {
  confine,
  openControl,
  runInTerminal,
  VirtualMachine,
  VmControl,
  VoltError,
  type ControlServer,
  type TimelineRow,
  type VmConfig,
} from '../api/index.ts';
import { createLog, writeStderr, type Log } from './log.ts';
import { toConfig, type MachineFlags } from './machine-options.ts';

export interface RunFlags extends MachineFlags {
  readonly timeline?: true | undefined;
  readonly json?: true | undefined;
  /** true: at the default path. */
  readonly control?: string | true | undefined;
  readonly sandbox: boolean;
}

/** Returns the process's exit code. */
export async function run(flags: RunFlags): Promise<number> {
  const log = createLog(flags.logLevel);
  const config = runConfig(toConfig(flags, log), flags);
  const vm = new VirtualMachine(config, { timeline: flags.timeline ?? false });
  log.info(`${vm.plan.boot.summary}; ${config.cpus} vCPUs, ${config.memoryBytes / 2 ** 20} MiB`);
  await using control = await openControlSocket(vm, flags.control);
  if (control) log.info(`control socket at ${control.path}`);
  const enterSandbox = () => {
    if (flags.sandbox) tellMissing(confine(vm, control?.path), log);
  };
  const { end, exitCode } = await runInTerminal(vm, config.console, log.always, enterSandbox);
  for (const line of end.lines) log.error(line);
  if (end.lines.length === 0) log.info(`guest ended: ${end.kind} on vCPU ${end.vcpu}`);
  // Where everybody was matters most when the guest failed, or was stopped because it hung.
  const tell = end.lines.length > 0 ? log.error : log.info;
  for (const state of end.states) tell(`  ${state}`);
  if (flags.timeline) printTimeline(vm.timeline.rows(vm.shared));
  return exitCode;
}

function tellMissing(missing: readonly string[], log: Log): void {
  if (missing.length === 0) return;
  log.info(`the sandbox has holes: this host has no ${missing.join(' and no ')}; volt doctor says more`);
}

/** Before the guest starts, so that a path that does not do is told at once and nothing of its life is missed. */
async function openControlSocket(
  vm: VirtualMachine,
  where: string | true | undefined,
): Promise<ControlServer | undefined> {
  if (where === undefined) return undefined;
  return openControl(new VmControl(vm), where === true ? undefined : where);
}

/** `--json` is a word that the embedded kernel understands. */
function runConfig(config: VmConfig, flags: RunFlags): VmConfig {
  if (!flags.json) return config;
  if (config.kernelPath !== undefined) {
    throw new VoltError(
      'usage',
      'Cannot use --json with --kernel (expected the embedded kernel, whose report it is)',
    );
  }
  return { ...config, cmdline: `${config.cmdline} json`.trim() };
}

function printTimeline(rows: readonly TimelineRow[]): void {
  const lines = rows.map(({ phase, atMs }) => `${atMs.toFixed(2).padStart(10)} ms  ${phase}`);
  writeStderr(`${lines.join('\n')}\n`);
}
