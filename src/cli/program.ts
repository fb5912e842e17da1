/** The command line of `volt`. Subcommands are loaded when they are called. */
import { Command, CommanderError, type CommandUnknownOpts } from '@commander-js/extra-typings';
import { EXIT_CODE, VoltError } from '../api/index.ts';
import { addFlags } from './add-flags.ts';
import type { CheckFlags } from './check.ts';
import { commanderError } from './commander-error.ts';
import { addCtlCommand } from './ctl.ts';
import { fail } from './fail.ts';
import { InvalidArgument, readNames } from './flags.ts';
import { addGuestCommands } from './guest-commands.ts';
import type { InspectFlags } from './inspect.ts';
import { nearestWord } from './nearest-word.ts';
import { RESTORE_FLAGS, RESTORE_HELP } from './restore-flags.ts';
import type { RestoreFlags } from './restore.ts';
import { MACHINE_FLAGS, RUN_FLAGS } from './run-flags.ts';
import { RUN_EXAMPLES } from './run-examples.ts';
import type { RunFlags } from './run.ts';
import { VERSION } from './version.ts';

const EXAMPLES = `
Examples:
  volt                                the embedded kernel: CPUs up, and a report
  volt --cpus 2 --kernel vmlinux --initrd initrd.img
  volt --cpus 4 --memory 2G --kernel vmlinuz --cmdline "console=ttyS0 quiet"
  volt --config vm.json --timeline
  volt check --config vm.json         check whether it would start
  volt inspect --cpus 4 --kernel vmlinux
  volt doctor
  volt --name web --kernel vmlinux    then, elsewhere: volt ps; volt console web
  volt ctl web snapshot web.snap      save a guest; then: volt restore web.snap

Exit codes:
  0      the guest ended itself: power-off, reset with --no-reboot, or status 0
         on port 0xf4
  1      this host or Volt could not start or continue the guest
  2      a flag, the configuration or an image is wrong
  3      the guest crashed with a triple fault
  4      KVM could not run the guest any further
  64+n   the guest wrote status n to port 0xf4 (at most 125); 2n+1 with
         --exit-code qemu, also where n is 0
  128+n  signal n ended volt; 130 also after Ctrl-A x`;

/** Columns of a terminal of the default size. */
const HELP_WIDTH = 80;

const TOP_HELP = `
Columns:
  HOST      the host CPU that the vCPU's thread runs on
  CPU%      CPU time, in percent of one host CPU
  STEAL%    share of the time in which it was ready to run without a host CPU
  EXITS/s   exits from the guest to volt
  MOST      the most frequent exits, by KVM's reason
  RIP       instruction pointer at the last sample

Keys:
  q, Ctrl-C quit
  space     refresh now

If stdout is not a terminal, tables are printed one after the other.`;

const INTERVAL = { shortest: 0.1, longest: 3600 } as const;

function toInterval(text: string): number {
  const seconds = /^\d{1,4}(\.\d{1,3})?$/.test(text) ? Number(text) : NaN;
  if (seconds >= INTERVAL.shortest && seconds <= INTERVAL.longest) return seconds;
  throw new InvalidArgument(`Expected seconds from ${INTERVAL.shortest} to ${INTERVAL.longest}.`);
}

const MAXIMUM_POOL_SIZE = 1024;

function toPoolSize(text: string): number {
  const size = /^\d{1,4}$/.test(text) ? Number(text) : 0;
  if (size >= 1 && size <= MAXIMUM_POOL_SIZE) return size;
  throw new InvalidArgument(`Expected a number from 1 to ${MAXIMUM_POOL_SIZE}.`);
}

/** The options of `volt run`, for `volt --help`: commander shows only those of volt itself there. */
function describeOptions(command: CommandUnknownOpts): string {
  const text = command.helpInformation();
  return text.slice(text.indexOf('Kernel:\n')).trimEnd();
}

/**
 * Whether two flags may be the same one: `-m` and `--memory` begin with the same letter. Watching every option of every
 * command costs more of a start than this.
 */
function mayRepeat(words: readonly string[]): boolean {
  const letters = words.flatMap((word) => /^--?([a-z])/i.exec(word)?.[1] ?? []);
  return new Set(letters).size < letters.length;
}

/** Refuses repeated flags, whose second value would silently replace the first. */
function refuseRepeats(command: CommandUnknownOpts): void {
  for (const option of command.options) {
    if (REPEATABLE.has(option.long ?? '')) continue;
    let isGiven = false;
    command.on(`option:${option.name()}`, () => {
      if (isGiven)
        throw new VoltError(
          'usage',
          `Cannot use ${option.long} twice: the first would have no effect; remove one of them`,
        );
      isGiven = true;
    });
  }
}

const REPEATABLE = new Set(
  [...MACHINE_FLAGS, ...RUN_FLAGS]
    .flatMap(({ flags }) => flags)
    .filter(({ isList }) => isList)
    .map((flag) => readNames(flag).long),
);

/** Man pages and completions are generated from this as well. */
export const program = new Command('volt')
  .description('Boots a Linux or other x86-64 kernel under KVM.')
  .version(VERSION, '-V, --version', 'print the version')
  .helpOption('-h, --help', 'print this help')
  .configureHelp({ helpWidth: HELP_WIDTH })
  .configureOutput({ outputError: (text, write) => write(commanderError(text, 'volt --help', 'flags')) })
  .exitOverride();

/** Titles of the groups of commands in help. */
const GROUP = {
  start: 'Start and describe guests:',
  host: 'This host:',
  running: 'Guests that run:',
} as const;

program.commandsGroup(GROUP.start);
const runCommand = program
  .command('run', { isDefault: true })
  .description('boot a guest; this is what volt does without a command');
const restoreCommand = program
  .command('restore')
  .description('let a guest go on that volt ctl PID snapshot has saved, in this process');
const checkCommand = program
  .command('check')
  .description(
    'check a configuration on this host: open and build all that run would, without running the guest',
  );
const inspectCommand = program
  .command('inspect')
  .description(
    'print the memory map, tables and registers that volt would build, and check them, or the state in a snapshot; needs no /dev/kvm',
  );

/** Commands with a machine's options, dozens each, which are defined only for the command that is called. */
const MACHINE_COMMANDS: Readonly<Record<string, () => unknown>> = {
  run: defineRun,
  restore: defineRestore,
  check: defineCheck,
  inspect: defineInspect,
};

function defineRun() {
  return addFlags(runCommand, [...MACHINE_FLAGS, ...RUN_FLAGS])
    .addHelpText('after', RUN_EXAMPLES)
    .action(async (flags) => {
      const { run } = await import('./run.ts');
      process.exitCode = await run(flags as unknown as RunFlags);
    });
}

function defineRestore() {
  return addFlags(restoreCommand, RESTORE_FLAGS)
    .argument('<dir>', "the snapshot's directory")
    .addHelpText('after', RESTORE_HELP)
    .action(async (directory, flags) => {
      const { restore } = await import('./restore.ts');
      process.exitCode = await restore(directory, flags as unknown as RestoreFlags);
    });
}

function defineCheck() {
  return addFlags(checkCommand, MACHINE_FLAGS)
    .option('--json', 'as JSON')
    .action(async (flags) => {
      const { check } = await import('./check.ts');
      process.exitCode = check(flags as unknown as CheckFlags);
    });
}

function defineInspect() {
  return addFlags(inspectCommand, MACHINE_FLAGS)
    .option('--json', 'as JSON')
    .option('--dump <dir>', 'write each structure to DIR, named by structure and guest address')
    .option(
      '--from <path>',
      'instead, compare the CPU that the snapshot in a directory needs with this host; or decode and check the MP tables in a memory dump or dumped structure',
    )
    .argument(
      '[guest|snapshot]',
      'instead, a guest by its name or process id, or the directory of a snapshot',
    )
    .action(async (snapshot, flags) => {
      const { inspect } = await import('./inspect.ts');
      process.exitCode = await inspect(snapshot, flags as unknown as InspectFlags);
    });
}

/** What `volt --help` prints. */
export function helpText(): string {
  defineAll();
  let text = '';
  program.configureOutput({ writeOut: (piece) => (text += piece) }).outputHelp();
  return text;
}

/** Defines the options of all commands, for help, man pages and completions. */
export function defineAll(): void {
  if (runCommand.options.length > 0) return;
  for (const define of Object.values(MACHINE_COMMANDS)) define();
}

/** Defines the options of the command that is called, or of all commands for help. */
function defineCalled(words: readonly string[]): void {
  const [first = ''] = words;
  if (first === 'help' || words.some((word) => word === '-h' || word === '--help')) return defineAll();
  const name = first.startsWith('-') || first === '' ? 'run' : first;
  MACHINE_COMMANDS[name]?.();
}

program.commandsGroup(GROUP.host);
program
  .command('selftest')
  .description(
    'boot the embedded kernel with 1, 2, 4, … CPUs and check that all come up and exchange interrupts',
  )
  .option('-c, --cpus <count>', 'largest number of CPUs', '8')
  .option('--quick', 'shorten the measurements')
  .option(
    '--timeout <seconds>',
    'stop a guest after this long; on a busy host, after up to ten times as long',
    '60',
  )
  .option('--json', 'as JSON')
  .action(async (flags) => {
    const { selftest } = await import('./selftest.ts');
    process.exitCode = await selftest(flags);
  });

program
  .command('doctor')
  .description('check whether this host can run volt, with advice on what is missing')
  .option('--json', 'as JSON')
  .action(async (flags) => {
    const { doctor } = await import('./doctor.ts');
    process.exitCode = doctor(flags);
  });

program
  .command('pool')
  .description('keep processes ready, which the guests of volt run and volt restore then start in')
  .argument('[dir]', "the directory of the pool's socket (default: where volt ps looks)")
  .option('--size <count>', 'processes that wait for a guest', toPoolSize, 4)
  .option('--status', 'print what the pool there has, instead')
  .option('--json', 'a line of JSON for each event; with --status, the status as JSON')
  .action(async (directory, flags) => {
    const { pool } = await import('./pool.ts');
    process.exitCode = await pool(directory, flags);
  });

program.commandsGroup(GROUP.running);
program
  .command('ps')
  .description('list running guests that have a name or a control socket')
  .option('-a, --all', 'also those that are defined and do not run')
  .option('-q, --quiet', 'process ids only')
  .option('--names', 'names only; with --quiet both')
  .option('--json', 'as JSON')
  .action(async (flags) => {
    const { ps } = await import('./ps.ts');
    process.exitCode = await ps(flags);
  });

program
  .command('health')
  .description('check whether guests run: exit code 0 if so, 1 if one is paused, 2 if none runs or answers')
  .argument('[guest]', 'name, process id or socket of a guest (default: all that volt ps lists)')
  .option('--timeout <seconds>', 'time for a guest to answer', toInterval, 5)
  .option('--json', 'as JSON')
  .action(async (guest, flags) => {
    const { health } = await import('./health.ts');
    process.exitCode = await health(guest, flags);
  });

program
  .command('top')
  .description('show the activity of the vCPUs of a running guest, refreshed every second')
  .argument('[guest]', 'its name, process id or socket (default: the only running guest)')
  .option('-d, --interval <seconds>', 'time between refreshes', toInterval, 1)
  .option('--once', 'print one table after one interval')
  .option('--json', 'print a line of JSON for each interval')
  .option('--symbols <file>', "System.map or ELF file (default: the symbols of the guest's process)")
  .option('--no-sample', 'do not make vCPUs leave the guest: state and RIP are those of the last sample')
  .addHelpText('after', TOP_HELP)
  .action(async (guest, flags) => {
    const { top } = await import('./top.ts');
    process.exitCode = await top(guest, flags);
  });

program
  .command('report')
  .description('print what a trace says: phases, APs, exits by reason, CPU time')
  .argument('<file>', 'of --timeline=FILE or volt ctl trace')
  .option('--json', 'as JSON')
  .action(async (file, flags) => {
    const { report } = await import('./report.ts');
    report(file, flags);
  });

addCtlCommand(program);
addGuestCommands(program);

program.addHelpText('after', () => `\nOptions of volt run:\n\n${describeOptions(runCommand)}\n${EXAMPLES}`);

/** Refuses an unknown command, which commander would take for an argument of `run`. */
function refuseUnknownCommand(word: string | undefined): void {
  const names = [...program.commands.map((command) => command.name()), 'help'];
  if (word === undefined || word.startsWith('-') || names.includes(word)) return;
  const nearest = nearestWord(word, names);
  const hint = nearest === undefined ? 'volt --help lists all commands' : `did you mean ${nearest}?`;
  throw new VoltError('usage', `unknown command '${word}'; ${hint}`);
}

/** Loads the commands of `volt ctl` for its help; otherwise they are loaded when one is called. */
async function addCtlHelp([first, second]: readonly string[]): Promise<void> {
  if (first !== 'ctl' && !(first === 'help' && second === 'ctl')) return;
  const { describeCtlCommands } = await import('./ctl-commands.ts');
  program.commands.find((command) => command.name() === 'ctl')!.addHelpText('after', describeCtlCommands());
}

/** Runs the command line and exits. */
export async function main(): Promise<never> {
  try {
    const words = process.argv.slice(2);
    refuseUnknownCommand(words[0]);
    defineCalled(words);
    if (mayRepeat(words)) program.commands.forEach(refuseRepeats);
    await addCtlHelp(words);
    await program.parseAsync();
  } catch (error) {
    process.exitCode = error instanceof CommanderError ? exitCodeOf(error) : fail(error);
  }
  process.exit();
}

/** Commander has printed its own message; help and version are not failures. */
function exitCodeOf({ exitCode }: CommanderError): number {
  return exitCode === 0 ? EXIT_CODE.ok : EXIT_CODE.usage;
}
