/**
 * What a process inherits from whoever starts it, read from /proc: user, limits, cgroups, namespaces and so on. A
 * process of a pool may only stand in for one that would be started by the caller if these are the same.
 */
import { readFileSync, readlinkSync, statSync } from 'node:fs';

/** Each property by the name that a refusal gives it. */
export type ProcessContext = Readonly<Record<string, string>>;

/** Lines of /proc/PID/status. (proc_pid_status(5)) */
const STATUS = {
  Uid: 'user',
  Gid: 'group',
  Groups: 'supplementary groups',
  CapInh: 'inheritable capabilities',
  CapPrm: 'permitted capabilities',
  CapEff: 'effective capabilities',
  CapBnd: 'capability bounding set',
  CapAmb: 'ambient capabilities',
  NoNewPrivs: 'no_new_privs',
  Seccomp: 'seccomp mode',
  Seccomp_filters: 'seccomp filters',
  SigBlk: 'blocked signals',
  Cpus_allowed: 'CPU affinity',
  Mems_allowed: 'NUMA nodes',
} as const;

const FILES = {
  limits: 'resource limits (ulimit)',
  oom_score_adj: 'oom_score_adj',
  personality: 'personality',
  'attr/current': 'security label',
} as const;

const NAMESPACES = ['cgroup', 'ipc', 'mnt', 'net', 'pid', 'pid_for_children', 'time', 'user', 'uts'] as const;

/** Fields of /proc/PID/stat after the name, which is the second one. (proc_pid_stat(5)) */
const STAT_FIELD = { nice: 19 - 3, realTimePriority: 40 - 3, policy: 41 - 3 } as const;

/** Name of the property that a process may change to the caller's by joining its cgroup. */
export const CGROUP = 'cgroup';
/** Processes with seccomp filters do not change their cgroup: one set of filters cannot be told from another. */
export const SECCOMP = STATUS.Seccomp;

export interface InheritedState {
  readonly context: ProcessContext;
  /** SigIgn: bit n - 1 for signal n. */
  readonly ignoredSignals: bigint;
  readonly umask: number;
}

/** Throws where a file of `pid`, a process id or `self`, cannot be read. */
export function readInherited(pid: number | 'self'): InheritedState {
  const at = (name: string) => `/proc/${pid}/${name}`;
  const text = (name: string) => readFileSync(at(name), 'latin1');
  const status = new Map(
    text('status')
      .split('\n')
      .map((line) => {
        const colon = line.indexOf(':');
        return [line.slice(0, colon), line.slice(colon + 1).trim()] as const;
      }),
  );
  const stat = text('stat');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const root = statSync(`${at('root')}/`);
  const context: Record<string, string> = {
    'root directory': `${root.dev}:${root.ino}`,
    [CGROUP]: readCgroup(pid),
    'nice value': fields[STAT_FIELD.nice]!,
    'scheduling policy': `${fields[STAT_FIELD.policy]} ${fields[STAT_FIELD.realTimePriority]}`,
  };
  for (const [name, called] of Object.entries(STATUS)) context[called] = status.get(name) ?? '';
  for (const [name, called] of Object.entries(FILES)) context[called] = orEmpty(() => text(name));
  for (const name of NAMESPACES) context[`${name} namespace`] = orEmpty(() => readlinkSync(at(`ns/${name}`)));
  return {
    context,
    ignoredSignals: BigInt(`0x${status.get('SigIgn') ?? '0'}`),
    umask: Number.parseInt(status.get('Umask') ?? '', 8),
  };
}

export function readCgroup(pid: number | 'self'): string {
  return readFileSync(`/proc/${pid}/cgroup`, 'latin1');
}

/** Of this process. Another build of Volt may understand a command line differently. */
export function executableId(): string {
  const { dev, ino } = statSync('/proc/self/exe');
  return `${dev}:${ino}`;
}

/** Name of the first property that differs. */
export function firstDifference(ours: ProcessContext, theirs: ProcessContext): string | undefined {
  return Object.keys(ours).find((name) => ours[name] !== theirs[name]);
}

/** A kernel may lack the file, as without a security module; then both sides do. */
function orEmpty(read: () => string): string {
  try {
    return read();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'EINVAL') return '';
    throw error;
  }
}
