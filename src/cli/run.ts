/** `volt run`: boots a guest with this terminal as its console. */
import {
  addBootWord,
  confine,
  HostResources,
  hostWarnings,
  runInTerminal,
  VirtualMachine,
  VmControl,
  VoltError,
  type ControlServer,
  type GdbServer,
  type MetricsServer,
  type StuckReason,
  type TimelineFile,
  type TimelineRow,
  type VmConfig,
  type VmOptions,
} from '../api/index.ts';
import type { NameClaim } from '../api/guests/claim-name.ts';
import { createLog, setLogFormat, type Log, type LogFormat, type LogLevel } from './log.ts';
import { writeStderr } from './output.ts';
import { toConfig, type MachineFlags } from './machine-options.ts';
import { VERSION } from './version.ts';

export interface RunFlags extends MachineFlags, HostFlags {
  readonly image?: string | undefined;
  readonly scratch?: string | undefined;
  readonly json?: true | undefined;
}

/** What `volt restore` takes as well: nothing of the machine. */
export interface HostFlags {
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
  /** A path: a trace there, instead of text on stderr. */
  readonly timeline?: string | true | undefined;
  /** true: at the default path. */
  readonly control?: string | true | undefined;
  /** The guest's name, which also opens a control socket. */
  readonly name?: string | undefined;
  readonly metrics?: string | undefined;
  readonly metricsLabels?: Readonly<Record<string, string>> | undefined;
  readonly gdb?: string | undefined;
  /** Seconds. */
  readonly shutdownTimeout: number;
  readonly jail?: string | undefined;
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  readonly netns?: string | undefined;
  readonly cgroup?: string | undefined;
  readonly sandbox: boolean;
}

/** Returns the process's exit code. */
export async function run(flags: RunFlags): Promise<number> {
  const log = await prepareRun(flags);
  const { given, opened } = await withImage(flags, log);
  const config = runConfig(toConfig(given, log), flags);
  return runGuest(flags, log, (options) => {
    const vm = new VirtualMachine(config, options);
    opened?.();
    return vm;
  });
}

/** The machine's flags, and what to do when its files are open. Loads the code of images only if the flag was given. */
async function withImage(
  flags: RunFlags,
  log: Log,
): Promise<{ readonly given: MachineFlags; readonly opened?: () => void }> {
  if (flags.image !== undefined)
    return (await import('./image-flags.ts')).flagsOfImage(flags.image, flags.scratch, flags, log);
  if (flags.scratch === undefined) return { given: flags };
  throw new VoltError(
    'usage',
    'Cannot use --scratch without --image: it has no effect there; add --image PATH',
  );
}

/** Enters the jail that the flags ask for. */
export async function prepareRun(flags: HostFlags): Promise<Log> {
  setLogFormat(flags.logFormat);
  refuseWithName(flags);
  if (flags.jail !== undefined) await startInJail(flags.jail, flags);
  refuseJailFlags(flags);
  return createLog(flags.logLevel);
}

/** Runs the machine that `first` makes, and those that follow when the guest resets itself. */
export async function runGuest(
  flags: HostFlags,
  log: Log,
  first: (options: VmOptions) => VirtualMachine,
): Promise<number> {
  using claim = await claimGuestName(flags);
  const resources = new HostResources();
  const options = { timeline: flags.timeline !== undefined, warn: log.warn, resources };
  let vm = first(options);
  using timelineFile = await openTimelineFile(vm, flags.timeline);
  const { config } = vm;
  hostWarnings(config).forEach(log.warn);
  log.info(`${vm.plan.boot.summary}; ${config.cpus} vCPUs, ${config.memoryBytes / 2 ** 20} MiB`);
  vm.deviceNotes.forEach(log.info);
  const control = new VmControl(vm);
  await using server = await openControlSocket(control, flags.control, claim);
  if (server) log.info(`control socket at ${server.path}`);
  await using metrics = await openMetricsServer(() => vm, control, flags);
  if (metrics) log.info(`metrics at ${metrics.where}`);
  using gdb = await openGdbServer(control, flags.gdb, log.always);
  if (config.hangReportSeconds > 0) {
    const remote = gdb?.where ?? (server ? `| volt ctl ${process.pid} gdb` : undefined);
    reportHangs(control, config.hangReportSeconds, log.warn, remote);
  }
  const tellManager = await openServiceManager();
  const enterSandbox = () => {
    if (!flags.sandbox) return undefined;
    const sockets = [server?.path, metrics?.path, gdb?.path].filter((path) => path !== undefined);
    const { missing, filters } = confine(config, sockets, [], { hasControl: server !== undefined });
    tellMissing(missing, log);
    return filters;
  };
  const restart = () => {
    log.info('the guest has reset itself; starting it again');
    vm = new VirtualMachine(vm.configAfterReset, options);
    timelineFile?.attach(vm);
    control.attach(vm);
    return vm;
  };
  const { end, exitCode } = await runInTerminal(vm, {
    console: config.console,
    hub: control.console,
    say: log.always,
    restart: config.reboot === 'exit' ? undefined : restart,
    limitResets: config.reboot !== 'always',
    shutdownMs: flags.shutdownTimeout * 1000,
    beforeStart: () => {
      const filters = enterSandbox();
      tellManager?.('READY=1');
      return filters;
    },
  });
  control.noteEnd(end);
  for (const line of end.lines) log.error(line);
  if (end.saved !== undefined) log.always(`the guest was ${end.saved} and ended`);
  else if (end.lines.length === 0) log.info(`guest ended: ${end.kind} on vCPU ${end.vcpu}`);
  // The vCPUs' states matter most when the guest failed, or was stopped because it hung.
  const tell = end.lines.length > 0 ? log.error : log.info;
  for (const state of end.states) tell(`  ${state}`);
  timelineFile?.write();
  if (flags.timeline === true) printTimeline(vm.timeline.rows(vm.shared, vm.config.bootCpu));
  return exitCode;
}

function refuseWithName({ name, control, jail }: HostFlags): void {
  const other = control !== undefined ? '--control' : jail !== undefined ? '--jail' : undefined;
  if (name === undefined || other === undefined) return;
  const why =
    other === '--control' ? 'the name opens a control socket' : 'names are kept outside of the jail';
  throw new VoltError('usage', `Cannot use --name with ${other}: ${why}; remove one of them`);
}

const JAIL_FLAGS = ['--jail', '--uid', '--gid', '--netns', '--cgroup'];

/** Flags of a jail without one: they would have no effect. */
function refuseJailFlags({ uid, gid, netns, cgroup }: HostFlags): void {
  const given = Object.entries({ uid, gid, netns, cgroup }).find(([, value]) => value !== undefined);
  if (given)
    throw new VoltError(
      'usage',
      `Cannot use --${given[0]} without --jail: it has no effect there; add --jail DIR`,
    );
}

/** Runs this command again in the jail, without the jail's flags. Does not return. */
async function startInJail(directory: string, { uid, gid, netns, cgroup }: HostFlags): Promise<never> {
  if (uid === undefined || gid === undefined || uid === 0) {
    throw new VoltError(
      'usage',
      'Cannot use --jail: it needs --uid and --gid of a user other than root; add them',
    );
  }
  const { enterJail } = await import('../api/jail.ts');
  const words = process.argv.slice(2);
  const kept = words.filter((word, i) => {
    const isFlag = JAIL_FLAGS.some((flag) => word === flag || word.startsWith(`${flag}=`));
    return !isFlag && !JAIL_FLAGS.includes(words[i - 1] ?? '');
  });
  return enterJail({ directory, uid, gid, netns, cgroup }, kept);
}

function tellMissing(missing: readonly string[], log: Log): void {
  if (missing.length === 0) return;
  log.info(`the sandbox is incomplete: this host has no ${missing.join(' and no ')}; see volt doctor`);
}

/** Loads its code only if the guest is to have a name. */
async function claimGuestName({ name }: HostFlags): Promise<NameClaim | undefined> {
  if (name === undefined) return undefined;
  const { claimName } = await import('../api/guests/claim-name.ts');
  return claimName(name);
}

/**
 * Loads its code only if the flag was given. Opened before the guest starts, so that a bad path is reported at once
 * and clients get every event.
 */
async function openControlSocket(
  control: VmControl,
  where: string | true | undefined,
  claim: NameClaim | undefined,
): Promise<ControlServer | undefined> {
  if (where === undefined && !claim) return undefined;
  const { prepareSnapshots } = await import('../api/prepare-snapshots.ts');
  prepareSnapshots();
  const { openControl, serveControl } = await import('../api/control/server.ts');
  control.openConsole();
  if (claim) return serveControl(control, claim.socketPath);
  return openControl(control, where === true ? undefined : where);
}

/** Loads the code of metrics only if the flag was given. */
async function openMetricsServer(
  vm: () => VirtualMachine,
  control: VmControl,
  { metrics, metricsLabels }: HostFlags,
): Promise<MetricsServer | undefined> {
  if (metrics === undefined && metricsLabels !== undefined)
    throw new VoltError(
      'usage',
      'Cannot use --metrics-labels without --metrics: it has no effect there; add --metrics ADDRESS:PORT',
    );
  if (metrics === undefined) return undefined;
  const { openMetrics } = await import('../api/metrics/server.ts');
  return openMetrics(vm, control, VERSION, metrics, metricsLabels);
}

/**
 * Loads its code only if the flag was given. With `,wait` behind the address the guest waits for gdb before its first
 * instruction.
 */
async function openGdbServer(
  control: VmControl,
  flag: string | undefined,
  say: (line: string) => void,
): Promise<GdbServer | undefined> {
  if (flag === undefined) return undefined;
  const waits = flag.endsWith(GDB_WAIT);
  const { openGdb } = await import('../api/gdb/server.ts');
  const server = openGdb(control, waits ? flag.slice(0, -GDB_WAIT.length) : flag, say);
  if (waits) await control.holdForGdb();
  say(`${waits ? 'the guest waits for gdb' : 'gdb can attach'}: target remote ${server.where}`);
  return server;
}

const GDB_WAIT = ',wait';

/** Loads its code only if the flag names a file. */
async function openTimelineFile(
  vm: VirtualMachine,
  flag: string | true | undefined,
): Promise<TimelineFile | undefined> {
  if (flag === undefined || flag === true) return undefined;
  const { TimelineFile: File } = await import('../api/trace/timeline-file.ts');
  return new File(flag, vm);
}

/**
 * Loads its code only if a service manager expects notifications, as systemd does for units of Type=notify.
 */
async function openServiceManager(): Promise<((state: string) => void) | undefined> {
  const address = process.env['NOTIFY_SOCKET'];
  if (address === undefined) return undefined;
  const { connectServiceManager } = await import('../api/service-manager.ts');
  return connectServiceManager(address);
}

const STUCK_WORDS: Readonly<Record<StuckReason, string>> = {
  'halted-for-good': 'halted with interrupts off',
  spins: 'spins with interrupts off',
  'waits-for-sipi': 'waits for a SIPI',
  stalled: 'does not leave KVM_RUN',
};

/** `remote` is what gdb's `target remote` takes for this guest, if it can attach. */
function reportHangs(
  control: VmControl,
  seconds: number,
  say: (line: string) => void,
  remote: string | undefined,
): void {
  control.reportHangs(seconds);
  control.onEvent((event) => {
    if (event.kind !== 'hang') return;
    say(`the guest hangs: no vCPU has made progress for ${seconds} s`);
    for (const { index, why, rip, symbol } of event.vcpus) {
      say(`  vCPU ${index}: ${STUCK_WORDS[why]}, RIP ${rip}${symbol === undefined ? '' : ` (${symbol})`}`);
    }
    if (remote !== undefined) say(`  attach gdb: target remote ${remote}`);
  });
}

/** `--json` becomes a parameter on the embedded kernel's command line. */
function runConfig(config: VmConfig, flags: RunFlags): VmConfig {
  if (!flags.json) return config;
  if (config.kernelPath !== undefined) {
    throw new VoltError(
      'usage',
      'Cannot use --json with --kernel: only the embedded kernel prints a JSON report; remove one of the two flags',
    );
  }
  return addBootWord(config, 'json');
}

function printTimeline(rows: readonly TimelineRow[]): void {
  const lines = rows.map(({ phase, atMs }) => `${atMs.toFixed(2).padStart(10)} ms  ${phase}`);
  writeStderr(`${lines.join('\n')}\n`);
}
