/**
 * Limits of the control groups that this process is in, as container engines and systemd set them. (Linux
 * Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst, cgroup-v1/pids.rst; Documentation/scheduler/sched-bwc.rst)
 */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** The lowest limit of the group and those above it that can be seen; Infinity: none. */
export interface CgroupLimits {
  readonly memoryBytes: number;
  /** Processes and threads. */
  readonly tasks: number;
  /** CPU time per time. */
  readonly cpus: number;
}

/** Returns undefined for a file that cannot be read. */
type ReadText = (path: string) => string | undefined;

const MOUNT = '/sys/fs/cgroup';
/** Where systemd mounts version 2 beside version 1. */
const HYBRID_MOUNT = `${MOUNT}/unified`;

interface Folders {
  /** Of version 2, from the group upwards. */
  readonly unified: readonly string[];
  /** Of version 1, by controller. */
  readonly controllers: Readonly<Record<'memory' | 'pids' | 'cpu', readonly string[]>>;
}

/** Never throws. Reads at most a few small files; `read` is for tests. */
export function cgroupLimits(read: ReadText = readOrNothing): CgroupLimits {
  const { unified, controllers } = foldersOf(read('/proc/self/cgroup') ?? '');
  const lowest = (folders: readonly string[], limit: (folder: string) => number) =>
    Math.min(Infinity, ...folders.map(limit));
  const numberIn = (name: string) => (folder: string) => toLimit(read(join(folder, name)));
  return {
    memoryBytes: Math.min(
      lowest(unified, numberIn('memory.max')),
      lowest(controllers.memory, numberIn('memory.limit_in_bytes')),
    ),
    tasks: Math.min(lowest(unified, numberIn('pids.max')), lowest(controllers.pids, numberIn('pids.max'))),
    cpus: Math.min(
      lowest(unified, (folder) => toCpus(read(join(folder, 'cpu.max')))),
      lowest(controllers.cpu, (folder) =>
        toCpus(
          `${read(join(folder, 'cpu.cfs_quota_us'))?.trim()} ${read(join(folder, 'cpu.cfs_period_us'))?.trim()}`,
        ),
      ),
    ),
  };
}

/** /proc/self/cgroup has a line ID:CONTROLLERS:PATH per hierarchy; version 2 has the id 0. (cgroups(7)) */
function foldersOf(text: string): Folders {
  const lines = text.split('\n').flatMap((line) => {
    const match = /^(\d+):([^:]*):(\/.*)$/.exec(line);
    return match ? [{ id: match[1]!, names: match[2]!.split(','), path: match[3]! }] : [];
  });
  const pathOf = (name: string) => lines.find(({ names }) => names.includes(name))?.path;
  const below = (mount: string, path: string | undefined) => (path === undefined ? [] : upwards(mount, path));
  const own = lines.find(({ id }) => id === '0')?.path;
  return {
    unified: [...below(MOUNT, own), ...below(HYBRID_MOUNT, own)],
    controllers: {
      memory: below(`${MOUNT}/memory`, pathOf('memory')),
      pids: below(`${MOUNT}/pids`, pathOf('pids')),
      cpu: below(`${MOUNT}/cpu`, pathOf('cpu')),
    },
  };
}

/**
 * The group's folder and those above it. In a container the path may be that of the host, which is not there; the
 * mount itself is then the container's group.
 */
function upwards(mount: string, path: string): string[] {
  const folders: string[] = [];
  for (let at = path; ; at = dirname(at)) {
    folders.push(join(mount, at));
    if (at === '/' || at === '.') return folders;
  }
}

/** Version 2 writes no limit as `max`, version 1 as the largest multiple of a page in 63 bits. */
function toLimit(text: string | undefined): number {
  const value = /^(\d+)\s*$/.exec(text ?? '')?.[1];
  const limit = value === undefined ? Infinity : Number(value);
  return limit > Number.MAX_SAFE_INTEGER ? Infinity : limit;
}

/** From quota and period in microseconds. No limit is `max`, or -1 in version 1. */
function toCpus(text: string | undefined): number {
  const match = /^(\d+) (\d+)\s*$/.exec(text ?? '');
  return match ? Number(match[1]) / Number(match[2]) : Infinity;
}

function readOrNothing(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return undefined;
  }
}
