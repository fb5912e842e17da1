/** `volt run`: boots a guest with this terminal as its console. */
import {
  openControl,
  runInTerminal,
  VirtualMachine,
  VmControl,
  VoltError,
  type ControlServer,
  type StuckReason,
  type TimelineRow,
  type VmConfig,
} from '../api/index.ts';
import { createLog, writeStderr } from './log.ts';
import { toConfig, type MachineFlags } from './machine-options.ts';

export interface RunFlags extends MachineFlags {
  readonly timeline?: true | undefined;
  readonly json?: true | undefined;
  /** true: at the default path. */
  readonly control?: string | true | undefined;
}

/** Returns the process's exit code. */
export async function run(flags: RunFlags): Promise<number> {
  const log = createLog(flags.logLevel);
  const config = runConfig(toConfig(flags, log), flags);
  const create = () => new VirtualMachine(config, { timeline: flags.timeline ?? false, warn: log.warn });
  let vm = create();
  log.info(`${vm.plan.boot.summary}; ${config.cpus} vCPUs, ${config.memoryBytes / 2 ** 20} MiB`);
  const control = new VmControl(vm);
  if (config.hangReportSeconds > 0) reportHangs(control, config.hangReportSeconds, log.warn);
  await using server = openControlSocket(control, flags.control);
  if (server) log.info(`control socket at ${server.path}`);
  const restart = () => {
    log.info('the guest has reset itself; starting it anew');
    vm = create();
    control.attach(vm);
    return vm;
  };
  const { end, exitCode } = await runInTerminal(vm, {
    console: config.console,
    say: log.always,
    restart: config.reboot === 'restart' ? restart : undefined,
  });
  for (const line of end.lines) log.error(line);
  if (end.lines.length === 0) log.info(`guest ended: ${end.kind} on vCPU ${end.vcpu}`);
  // Where everybody was matters most when the guest failed, or was stopped because it hung.
  const tell = end.lines.length > 0 ? log.error : log.info;
  for (const state of end.states) tell(`  ${state}`);
  if (flags.timeline) printTimeline(vm.timeline.rows(vm.shared));
  return exitCode;
}

/** Before the guest starts, so that a path that does not do is told at once and nothing of its life is missed. */
function openControlSocket(control: VmControl, where: string | true | undefined): ControlServer | undefined {
  if (where === undefined) return undefined;
  return openControl(control, where === true ? undefined : where);
}

const STUCK_WORDS: Readonly<Record<StuckReason, string>> = {
  'halted-for-good': 'halted with interrupts off',
  spins: 'spins with interrupts off',
  'waits-for-sipi': 'waits for a SIPI',
  stalled: 'does not come out of KVM',
};

function reportHangs(control: VmControl, seconds: number, say: (line: string) => void): void {
  control.reportHangs(seconds);
  control.onEvent((event) => {
    if (event.kind !== 'hang') return;
    say(`the guest hangs: no vCPU has made progress for ${seconds} s`);
    for (const { index, why, rip, symbol } of event.vcpus) {
      say(`  vCPU ${index}: ${STUCK_WORDS[why]}, RIP ${rip}${symbol === undefined ? '' : ` (${symbol})`}`);
    }
  });
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
