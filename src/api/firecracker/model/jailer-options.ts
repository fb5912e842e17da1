/** The command line of `jailer`. (firecracker-microvm/firecracker, src/jailer/src/env.rs) */
import { instanceIdProblem, type ArgumentTable, type ParsedArguments } from './arguments.ts';

export const JAILER_ARGUMENTS = {
  cgroup: { takesValue: true, repeats: true, help: 'A file of the cgroup and its value: cpu.weight=50.' },
  'cgroup-version': { takesValue: true, default: '1', help: 'Version of cgroups: 1 or 2.' },
  'chroot-base-dir': { takesValue: true, default: '/srv/jailer', help: 'Folder of all jails.' },
  daemonize: { help: 'Lead a session of its own, with /dev/null as stdin, stdout and stderr.' },
  'exec-file': { takesValue: true, required: true, help: 'The program to run in the jail.' },
  gid: { takesValue: true, required: true, help: 'The group to become.' },
  id: { takesValue: true, required: true, help: 'Identifier of the microVM.' },
  netns: { takesValue: true, help: 'Path of the network namespace to join.' },
  'new-pid-ns': { help: 'Run the program in a new PID namespace.' },
  'parent-cgroup': { takesValue: true, help: 'Cgroup that gets the cgroup of the microVM.' },
  'resource-limit': {
    takesValue: true,
    repeats: true,
    help: 'fsize=BYTES: largest file; no-file=N: descriptors.',
  },
  uid: { takesValue: true, required: true, help: 'The user to become.' },
  version: { help: 'Print the version.' },
} as const satisfies ArgumentTable;

/** A problem of the jailer's. `kind`: its name in Firecracker. */
export class JailerFault extends Error {
  readonly kind: string;

  constructor(kind: string, message: string) {
    super(message);
    this.kind = kind;
  }
}

export interface JailerOptions {
  readonly id: string;
  readonly execFile: string;
  readonly uid: number;
  readonly gid: number;
  readonly baseDirectory: string;
  readonly netns: string | undefined;
  readonly daemonize: boolean;
  readonly newPidNamespace: boolean;
  readonly cgroupVersion: number;
  /** undefined: named after the program. */
  readonly parentCgroup: string | undefined;
  readonly cgroupFiles: readonly { readonly file: string; readonly value: string }[];
  readonly limits: { readonly fileBytes: bigint | undefined; readonly openFiles: bigint };
  /** Words for the program. */
  readonly rest: readonly string[];
}

/** Descriptors if no limit is given. */
const DEFAULT_OPEN_FILES = 2048n;

/** Throws JailerFault. */
export function toJailerOptions(flags: ParsedArguments): JailerOptions {
  const id = flags.value('id')!;
  const problem = instanceIdProblem(id);
  if (problem !== undefined)
    throw new JailerFault('InvalidInstanceId', `Invalid instance ID: ${describeIdProblem(problem)}`);
  const parentCgroup = flags.value('parent-cgroup');
  if (parentCgroup !== undefined && !isPlainPath(parentCgroup))
    throw new JailerFault(
      'CgroupInvalidParentPath',
      "Parent cgroup path is invalid. Path should not be absolute or contain '..' or '.'",
    );
  const version = flags.value('cgroup-version')!;
  if (!/^\+?\d{1,3}$/.test(version) || Number(version) > 255) throw badVersion(version);
  return {
    id,
    execFile: flags.value('exec-file')!,
    uid: toId(flags.value('uid')!, 'Uid', 'uid'),
    gid: toId(flags.value('gid')!, 'Gid', 'gid'),
    baseDirectory: flags.value('chroot-base-dir')!,
    netns: flags.value('netns'),
    daemonize: flags.flag('daemonize'),
    newPidNamespace: flags.flag('new-pid-ns'),
    cgroupVersion: Number(version),
    parentCgroup,
    cgroupFiles: flags.values('cgroup').map(toCgroupFile),
    limits: toLimits(flags.values('resource-limit')),
    rest: flags.rest,
  };
}

export function badVersion(version: string): JailerFault {
  return new JailerFault('CgroupInvalidVersion', `${version} is an invalid cgroup version specifier`);
}

/** Whether a path is relative and has neither `.` nor `..`. */
function isPlainPath(path: string): boolean {
  return !path.startsWith('/') && path.split('/').every((part) => part !== '..') && !/^\.(\/|$)/.test(path);
}

function toId(text: string, kind: string, name: string): number {
  if (/^\+?\d{1,10}$/.test(text) && Number(text) <= 0xffff_ffff) return Number(text);
  throw new JailerFault(kind, `Invalid ${name}: ${text}`);
}

function toCgroupFile(text: string): { file: string; value: string } {
  const parts = text.split('=');
  const [file = '', value = ''] = parts;
  if (parts.length !== 2 || value === '')
    throw new JailerFault('CgroupFormat', `Invalid format for cgroups: ${text}`);
  if (!isPlainPath(file)) throw new JailerFault('CgroupInvalidFile', `Cgroup invalid file: ${text}`);
  return { file, value };
}

function toLimits(words: readonly string[]): JailerOptions['limits'] {
  let fileBytes: bigint | undefined;
  let openFiles = DEFAULT_OPEN_FILES;
  for (const word of words) {
    const equals = word.indexOf('=');
    if (equals < 0) throw new JailerFault('ResLimitFormat', `Invalid format for resources limits: ${word}`);
    const [name, text] = [word.slice(0, equals), word.slice(equals + 1)];
    if (!/^\+?\d{1,20}$/.test(text) || BigInt(text) >= 2n ** 64n)
      throw new JailerFault(
        'ResLimitValue',
        `Invalid limit value for resource: ${text}: invalid digit found in string`,
      );
    if (name === 'fsize') fileBytes = BigInt(text);
    else if (name === 'no-file') openFiles = BigInt(text);
    else throw new JailerFault('ResLimitArgument', `Invalid resource argument: ${name}`);
  }
  return { fileBytes, openFiles };
}

/** In the words of the jailer; Firecracker itself prints the form of `instanceIdProblem`. */
function describeIdProblem(problem: string): string {
  return problem
    .replace(/^InvalidLen\((\d+), (\d+), (\d+)\)$/, 'Invalid len ($1);  the length must be between $2 and $3')
    .replace(/^InvalidChar\('(.*)', (\d+)\)$/s, 'Invalid char ($1) at position $2');
}
