/** `volt ctl`: one call to a running guest's control socket; the answer is printed as text or JSON. */
import { Argument, Command, Option, type CommandUnknownOpts } from '@commander-js/extra-typings';
import {
  connectControl,
  EXIT_CODE,
  IPI_MODES,
  MP_STATE_NAMES,
  openSymbols,
  parseCpuList,
  VoltError,
  type ControlClient,
  type ControlMethod,
  type ControlParams,
  type ControlResult,
} from '../api/index.ts';
import { InvalidArgument } from './flags.ts';
import { commanderError } from './commander-error.ts';
import {
  formatBalloon,
  formatMemory,
  formatCpuChange,
  formatDevices,
  formatRegs,
  formatStatus,
  formatVcpus,
  formatWhere,
  withSymbols,
} from './ctl-format.ts';
import { findRunning } from '../api/guests/running-guest.ts';
import { guestSocket } from './find-guest.ts';
import { writeLine, writeStdout } from './output.ts';
import { toMib } from './size.ts';

/** Runs the words after `volt ctl`. Returns the process's exit code. */
export async function ctl(words: readonly string[], outer: CommandUnknownOpts): Promise<number> {
  const json = words[0] === '--json';
  const [guest, ...rest] = json ? words.slice(1) : words;
  if (guest === '--help' || guest === '-h') outer.help();
  if (guest === undefined || guest.startsWith('-')) {
    throw new VoltError(
      'usage',
      `Cannot run volt ctl: ${guest === undefined ? 'no guest is named' : `unknown option ${guest}`} (expected volt ctl [--json] <guest> <command>)`,
    );
  }
  const program = commandsFor(guest, json, outer);
  if (program.commands.some((command) => command.name() === guest) && !findRunning(guest)) {
    throw new VoltError(
      'usage',
      `Cannot run volt ctl ${guest}: no guest is named before the command (expected volt ctl <guest> ${guest}; volt ps lists guests)`,
    );
  }
  await program.parseAsync(rest, { from: 'user' });
  return EXIT_CODE.ok;
}

/** The list of commands, for the help of `volt ctl`. */
export function describeCtlCommands(): string {
  const program = commandsFor('GUEST', false, new Command().configureHelp({ helpWidth: 80 }));
  const text = program.helpInformation();
  return `\n${text.slice(text.indexOf('Commands:')).trimEnd()}`;
}

/** The commands of `volt ctl`, for the guest that its help names. */
export function commandsFor(guest: string, json: boolean, outer: CommandUnknownOpts): CommandUnknownOpts {
  const program = new Command(`volt ctl ${guest}`)
    .description('Controls this guest.')
    .option('--json', 'print the answer as JSON');
  // Before any subcommand is added, because subcommands copy them: one-line errors, and no process.exit.
  (program as CommandUnknownOpts).copyInheritedSettings(outer);
  program.helpOption('-h, --help', 'print this help').configureOutput({
    outputError: (text, write) => write(commanderError(text, 'volt ctl --help', 'commands')),
  });
  const wantsJson = () => json || program.opts().json;

  /** Makes one call; `print` formats the answer as text, and is missing for methods without a result. */
  const send = async <M extends ControlMethod>(
    method: M,
    params: ControlParams<M>,
    print?: (result: ControlResult<M>) => string,
  ) => {
    using client = await connectTo(guest);
    const result = await client.call(method, params);
    if (wantsJson()) writeJson(result);
    else if (print) writeStdout(print(result));
  };

  program
    .command('status')
    .description('state, uptime, vCPUs, memory and kernel of the guest')
    .action(() => send('status', {}, formatStatus));
  program
    .command('vcpus')
    .description('a line for each vCPU: state, KVM MP state, thread, host CPUs, exits, RIP')
    .action(() => send('vcpus', {}, formatVcpus));
  program
    .command('devices')
    .description('virtio devices: state, features and queues with their counters')
    .action(() => send('devices', {}, formatDevices));
  program
    .command('memory')
    .description('memory that can be plugged while the guest runs (--memory SIZE,max=SIZE)')
    .argument('[size]', 'ask the guest for so much memory in all first, such as 4G', toMib)
    .action((mib) => send('memory', mib === undefined ? {} : { mib }, formatMemory));
  program
    .command('balloon')
    .description('size of the memory balloon, and statistics of guest memory')
    .argument('[size]', 'set the requested size first, such as 128M', toMib)
    .action((mib) => send('balloon', mib === undefined ? {} : { mib }, formatBalloon));
  program
    .command('where')
    .description('state and RIP of each vCPU, with the function at RIP if known')
    .option('--symbols <file>', "System.map or ELF file (default: the symbols of the guest's process)")
    .action(async ({ symbols }) => {
      const symbolOf = symbols === undefined ? undefined : openSymbols(symbols);
      using client = await connectTo(guest);
      const vcpus = await client.call('vcpus', {});
      if (wantsJson()) writeJson(withSymbols(vcpus, symbolOf).map(toPlace));
      else writeStdout(formatWhere(vcpus, symbolOf));
    });
  program
    .command('regs')
    .description('registers of a vCPU, which leaves the guest for a moment unless paused')
    .argument('<vcpu>', "the vCPU's number", toNumber)
    .action((vcpu) => send('regs', { vcpu }, formatRegs));
  program
    .command('pause')
    .description('pause vCPUs; returns when they have left the guest')
    .argument('[vcpus...]', 'their numbers; without any, all', collect)
    .action((vcpus) => send('pause', vcpus.length > 0 ? { vcpus } : {}));
  program
    .command('resume')
    .description('resume paused vCPUs')
    .argument('[vcpus...]', 'their numbers; without any, all', collect)
    .action((vcpus) => send('resume', vcpus.length > 0 ? { vcpus } : {}));
  program
    .command('stop')
    .description('end the guest at once, without a shutdown; returns when it has ended')
    .action(() => send('stop', {}));
  program
    .command('ipi')
    .description('send an interrupt')
    .addOption(new Option('--mode <mode>', 'delivery mode').choices(IPI_MODES).makeOptionMandatory())
    .addOption(new Option('--to <vcpu>', 'a vCPU, or all').argParser(toDestination).makeOptionMandatory())
    .option('--except <vcpu>', 'with --to all: exclude this vCPU', toNumber)
    .option('--vector <vector>', 'such as 48 or 0x30; NMI and INIT have none', toNumber)
    .addOption(new Option('--trigger <trigger>', 'trigger mode').choices(['edge', 'level'] as const))
    .option('--deassert', 'level: de-assert')
    .addHelpText(
      'after',
      `
Examples:
  volt ctl ${guest} ipi --mode nmi --to 1
  volt ctl ${guest} ipi --mode init --to all --except 0
  volt ctl ${guest} ipi --mode sipi --vector 0x08 --to 1`,
    )
    .action((flags) => send('ipi', toIpi(flags)));
  program
    .command('nmi')
    .description('send an NMI')
    .argument('[vcpu]', 'the vCPU; without it, all', toNumber)
    .action((vcpu) => send('nmi', vcpu === undefined ? {} : { vcpu }));
  program
    .command('start-ap')
    .description('start an AP: INIT, then SIPI')
    .argument('<vcpu>', "the AP's number", toNumber)
    .argument('<vector>', 'such as 8 or 0x08: the AP starts at vector x 0x1000', toNumber)
    .action((vcpu, vector) => send('start-ap', { vcpu, vector }));
  program
    .command('affinity')
    .description("pin a vCPU's thread")
    .argument('<vcpu>', "the vCPU's number", toNumber)
    .argument('<cpus>', 'host CPUs, such as 2 or 0-1,3', toCpus)
    .action((vcpu, cpus) => send('affinity', { vcpu, cpus }));
  program
    .command('nice')
    .description("set the nice value of a vCPU's thread")
    .argument('<vcpu>', "the vCPU's number", toNumber)
    .argument('<nice>', 'from -20 (highest priority) to 19', toNice)
    .allowUnknownOption()
    .action((vcpu, nice) => send('nice', { vcpu, nice }));
  program
    .command('mp-state')
    .description("set a paused vCPU's MP state (KVM_SET_MP_STATE)")
    .argument('<vcpu>', "the vCPU's number", toNumber)
    .addArgument(new Argument('<state>', 'one of').choices(MP_STATE_NAMES))
    .argument('[vector]', "with sipi-received: the SIPI's vector", toNumber)
    .action((vcpu, state, vector) =>
      send('mp-state', { vcpu, state, ...(vector === undefined ? {} : { vector }) }),
    );
  program
    .command('cpus')
    .description('plug or eject vCPUs to reach this number; returns when the guest has taken or ejected them')
    .argument('<count>', 'at most max=M of --cpus', toNumber)
    .action((count) => send('cpus', { count }, formatCpuChange));
  program
    .command('plug')
    .description('plug a disk or a network interface into the PCI bus; returns when the guest has taken it')
    .argument('<device>', 'disk=… or net=…, with what --disk or --net takes')
    .addHelpText(
      'after',
      `
Examples:
  volt ctl ${guest} plug disk=/srv/data.img
  volt ctl ${guest} plug disk=path=/srv/iso.img,readonly,id=iso
  volt ctl ${guest} plug net=tap=tap1`,
    )
    .action(async (device) => {
      const { plug, formatPlugged } = await import('./ctl-plug.ts');
      const result = await plug(guestSocket(guest), device);
      if (wantsJson()) writeJson(result);
      else writeStdout(formatPlugged(result));
    });
  program
    .command('unplug')
    .description('ask the guest to release a disk or a network interface; returns when it has')
    .argument('<id>', "the device's name in devices")
    .action(async (id) => {
      const { unplug, formatUnplugged } = await import('./ctl-plug.ts');
      const result = await unplug(guestSocket(guest), id);
      if (wantsJson()) writeJson(result);
      else writeStdout(formatUnplugged(result));
    });
  program
    .command('powerdown')
    .description('press the power button; a guest that listens to it shuts itself down')
    .action(() => send('powerdown', {}));
  program
    .command('snapshot')
    .description('save the guest to a directory, for volt restore; it goes on afterwards')
    .argument('<dir>', 'created if it does not exist; an earlier snapshot there is replaced')
    .option(
      '--diff',
      'write only what has changed since the last snapshot, which DIR has; all, if DIR is empty',
    )
    .option('--live', 'copy most of the memory while the guest runs: it is paused for less time')
    .option('--stop', 'end the guest when it is saved, with exit code 0')
    .addHelpText(
      'after',
      `
Examples:
  volt ctl ${guest} snapshot /srv/web.snap
  volt ctl ${guest} snapshot /srv/web.snap --diff --live
  volt ctl ${guest} snapshot /srv/web.snap --stop && volt restore /srv/web.snap

Ctrl-C cancels: the guest goes on, and an earlier snapshot stays as it is.`,
    )
    .action(async (directory, flags) => {
      const { snapshot, formatSnapshot } = await import('./ctl-snapshot.ts');
      const result = await snapshot(guestSocket(guest), directory, flags);
      if (wantsJson()) writeJson(result);
      else writeStdout(formatSnapshot(directory, result));
    });
  program
    .command('dump')
    .description('write a core file of the guest for gdb and crash; it goes on afterwards')
    .argument('<file>', 'replaced when the new one is complete; holes take no space')
    .action(async (file) => {
      const { dump, formatDump } = await import('./ctl-dump.ts');
      const result = await dump(guestSocket(guest), file);
      if (wantsJson()) writeJson(result);
      else writeStdout(formatDump(file, result));
    });
  program
    .command('trace')
    .description('record exits, CPU time and device requests for Perfetto and volt report')
    .argument('<seconds>', 'from 1 to 3600', toNumber)
    .argument('<file>', 'such as web.json; replaced when the new one is complete')
    .action(async (seconds, file) => {
      const { trace, formatTraceResult } = await import('./ctl-trace.ts');
      const result = await trace(guestSocket(guest), seconds, file);
      if (wantsJson()) writeJson(result);
      else writeStdout(formatTraceResult(file, result));
    });
  program
    .command('gdb')
    .description('stop the guest for gdb and carry its remote protocol on stdin and stdout')
    .addHelpText(
      'after',
      `
In gdb:
  (gdb) target remote | volt ctl ${guest} gdb

docs/debugging.md has the rest.`,
    )
    .action(async () => {
      const { bridgeGdb } = await import('./ctl-gdb.ts');
      await bridgeGdb(guestSocket(guest));
    });
  program
    .command('events')
    .description('print events, one line of JSON each, until the guest ends or Ctrl-C')
    .action(async () => {
      using client = await connectTo(guest);
      for await (const event of client.events()) if (!writeLine(JSON.stringify(event))) return;
    });
  return program;
}

function toPlace({ index, state, rip, symbol }: ControlResult<'vcpus'>[number]) {
  return { index, state, rip, symbol };
}

function writeJson(result: unknown): void {
  writeStdout(`${JSON.stringify(result, null, 2)}\n`);
}

function connectTo(guest: string): Promise<ControlClient> {
  return connectControl(guestSocket(guest));
}

interface IpiFlags {
  readonly mode: (typeof IPI_MODES)[number];
  readonly to: number | 'all';
  readonly except?: number | undefined;
  readonly vector?: number | undefined;
  readonly trigger?: 'edge' | 'level' | undefined;
  readonly deassert?: true | undefined;
}

function toIpi({ mode, to, except, vector, trigger, deassert }: IpiFlags): ControlParams<'ipi'> {
  if (except !== undefined && to !== 'all') {
    throw new VoltError('usage', `Cannot use --except ${except}: --to is ${to} (expected --to all)`);
  }
  return {
    mode,
    ...(except === undefined ? { destination: to } : { destination: 'all-but', except }),
    ...(vector === undefined ? {} : { vector }),
    ...(trigger === undefined ? {} : { trigger }),
    ...(deassert ? { level: false } : {}),
  };
}

function toNumber(text: string): number {
  if (/^(\d{1,10}|0x[0-9a-f]{1,8})$/i.test(text)) return Number(text);
  throw new InvalidArgument('Expected a whole number such as 3 or 0x30.');
}

function toNice(text: string): number {
  if (/^-?\d{1,2}$/.test(text)) return Number(text);
  throw new InvalidArgument('Expected a nice value from -20 to 19.');
}

function collect(text: string, before: number[] | undefined): number[] {
  return [...(before ?? []), toNumber(text)];
}

function toDestination(text: string): number | 'all' {
  return text === 'all' ? text : toNumber(text);
}

function toCpus(text: string): number[] {
  const cpus = parseCpuList(text);
  if (cpus) return cpus;
  throw new InvalidArgument('Expected host CPUs such as 2 or 0-1,3.');
}
