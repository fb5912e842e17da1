/**
 * Command lines as Firecracker and its jailer read them: `--name value`, never `--name=value`; words behind `--` are left
 * alone. (firecracker-microvm/firecracker, src/utils/src/arg_parser.rs)
 */
import { debugString } from '../../../json/text.ts';

export interface Argument {
  readonly help: string;
  readonly takesValue?: boolean;
  readonly default?: string;
  readonly required?: boolean;
  readonly repeats?: boolean;
  /** An argument that must be given as well. */
  readonly requires?: string;
  /** An argument that must not be given as well. */
  readonly forbids?: string;
}

export type ArgumentTable = Readonly<Record<string, Argument>>;

export interface ParsedArguments {
  /** `--help` or `--version`, beside which nothing else is looked at. */
  readonly only: 'help' | 'version' | undefined;
  flag(name: string): boolean;
  value(name: string): string | undefined;
  values(name: string): readonly string[];
  /** The words behind `--`. */
  readonly rest: readonly string[];
}

/** A wrong command line. `debug`: the error as Rust's `{:?}` prints it. */
export class ArgumentFault extends Error {
  readonly debug: string;

  constructor(message: string, kind: string, ...names: readonly string[]) {
    super(message);
    this.debug = `${kind}(${names.map(debugString).join(', ')})`;
  }
}

/** Throws ArgumentFault. */
export function parseArguments(table: ArgumentTable, words: readonly string[]): ParsedArguments {
  const separator = words.indexOf('--');
  const own = separator < 0 ? words : words.slice(0, separator);
  const rest = separator < 0 ? [] : words.slice(separator + 1);
  const found = new Map<string, string[]>();
  const only =
    own.includes('--help') || own.includes('-h') ? 'help' : own.includes('--version') ? 'version' : undefined;
  if (only === undefined) {
    readWords(table, own, found);
    checkRelations(table, own, found);
  }
  return {
    only,
    rest,
    flag: (name) => found.has(name),
    value: (name) => found.get(name)?.[0] ?? table[name]?.default,
    values: (name) => found.get(name) ?? [],
  };
}

function readWords(table: ArgumentTable, words: readonly string[], found: Map<string, string[]>): void {
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    const name = word.startsWith('--') ? word.slice(2) : word;
    const argument = word.startsWith('--') && Object.hasOwn(table, name) ? table[name] : undefined;
    if (!argument)
      throw new ArgumentFault(
        `Found argument '${name}' which wasn't expected, or isn't valid in this context.`,
        'UnexpectedArgument',
        name,
      );
    if (found.has(name) && !argument.repeats)
      throw new ArgumentFault(
        `The argument '${name}' was provided more than once.`,
        'DuplicateArgument',
        name,
      );
    if (!argument.takesValue) {
      found.set(name, []);
      continue;
    }
    const value = words[++i];
    if (value === undefined || value.startsWith('--'))
      throw new ArgumentFault(
        `The argument '${name}' requires a value, but none was supplied.`,
        'MissingValue',
        name,
      );
    found.set(name, [...(found.get(name) ?? []), value]);
  }
}

function checkRelations(
  table: ArgumentTable,
  words: readonly string[],
  found: ReadonlyMap<string, unknown>,
): void {
  const missing = (name: string) =>
    new ArgumentFault(`Argument '${name}' required, but not found.`, 'MissingArgument', name);
  for (const [name, { required, requires, forbids }] of sortedEntries(table)) {
    if (required && !found.has(name)) throw missing(name);
    if (!found.has(name)) continue;
    if (requires !== undefined && !words.includes(`--${requires}`)) throw missing(requires);
    if (forbids !== undefined && words.includes(`--${forbids}`))
      throw new ArgumentFault(
        `Argument '${name}' cannot be used together with argument '${forbids}'.`,
        'ForbiddenArgument',
        name,
        forbids,
      );
  }
}

export function formatHelp(table: ArgumentTable): string {
  const section = (title: string, isIn: (argument: Argument) => boolean) => {
    const rows = sortedEntries(table)
      .filter(([, argument]) => isIn(argument))
      .map(([name, argument]) => {
        const usage = argument.takesValue ? `  --${name} <${name}>` : `  --${name}`;
        const fallback = argument.default === undefined ? '' : ` [default: "${argument.default}"]`;
        return [usage, `${argument.help}${fallback}`] as const;
      });
    const width = Math.max(0, ...rows.map(([usage]) => usage.length));
    return rows.length === 0
      ? []
      : [`${title}:`, ...rows.map(([usage, help]) => `${usage.padEnd(width)}   ${help}`), ''];
  };
  return [
    ...section('required arguments', ({ required }) => required === true),
    ...section('optional arguments', ({ required }) => required !== true),
  ]
    .join('\n')
    .trimEnd();
}

function sortedEntries(table: ArgumentTable): [string, Argument][] {
  return Object.entries(table).sort(([a], [b]) => (a < b ? -1 : 1));
}

/** 1 to 64 letters, digits and hyphens; otherwise the reason, as Rust's `{:?}` prints it. */
export function instanceIdProblem(id: string): string | undefined {
  const bytes = Buffer.byteLength(id);
  if (bytes < 1 || bytes > 64) return `InvalidLen(${bytes}, 1, 64)`;
  const at = [...id].findIndex((char) => !/^[-\p{Alphabetic}\p{N}]$/u.test(char));
  return at < 0 ? undefined : `InvalidChar('${[...id][at]}', ${at})`;
}

/** Flags of `firecracker`. */
export const FIRECRACKER_ARGUMENTS = {
  'api-sock': {
    takesValue: true,
    default: '/run/firecracker.socket',
    help: "Path of the API's Unix socket.",
  },
  'boot-timer': { help: 'Log when the guest writes to the boot timer device.' },
  'config-file': { takesValue: true, help: 'JSON file with the configuration of a microVM to start.' },
  'describe-snapshot': { takesValue: true, help: "Print the format version of a snapshot's state file." },
  'enable-pci': { help: 'Put the virtio devices on a PCI bus.' },
  'http-api-max-payload-size': {
    takesValue: true,
    default: '51200',
    help: 'Largest body of a request, in bytes.',
  },
  id: { takesValue: true, default: 'anonymous-instance', help: 'Identifier of the microVM.' },
  level: { takesValue: true, help: 'Level of the log.' },
  'log-path': { takesValue: true, help: 'File or FIFO that the log is written to.' },
  metadata: { takesValue: true, help: 'JSON file with the initial content of the MMDS.' },
  'metrics-path': { takesValue: true, help: 'File or FIFO that metrics are written to.' },
  'mmds-size-limit': { takesValue: true, help: 'Largest content of the MMDS, in bytes.' },
  module: { takesValue: true, help: 'Module whose messages are logged.' },
  'no-api': { requires: 'config-file', help: 'Run without the API socket.' },
  'no-seccomp': { forbids: 'seccomp-filter', help: "Run without Volt's sandbox. Not recommended." },
  'parent-cpu-time-us': { takesValue: true, help: 'CPU time of the parent process, in microseconds.' },
  'seccomp-filter': {
    takesValue: true,
    forbids: 'no-seccomp',
    help: "Accepted if the file exists; Volt's own filters are used.",
  },
  'show-level': { help: 'Print the level in log lines.' },
  'show-log-origin': { help: 'Print the source file and line in log lines.' },
  'snapshot-version': { help: 'Print the version of the snapshot format.' },
  'start-time-cpu-us': { takesValue: true, help: 'CPU time when the process was started, in microseconds.' },
  'start-time-us': { takesValue: true, help: 'Time when the process was started, in microseconds.' },
  version: { help: 'Print the version.' },
} as const satisfies ArgumentTable;
