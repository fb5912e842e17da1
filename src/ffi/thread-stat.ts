/** What the host's scheduler says of a thread of this process. (Linux proc(5); Documentation/scheduler/sched-stats.rst) */
import { readFileSync } from 'node:fs';

export interface ThreadStat {
  /** Host CPU that it runs on, or ran on last. */
  readonly hostCpu: number;
  /** Time that it ran, in nanoseconds. */
  readonly runtimeNs: number;
  /** Time that it was ready to run and had no host CPU, in nanoseconds; missing where the host does not count it. */
  readonly waitNs?: number;
}

/** `processor` is field 39 of stat, utime and stime are 14 and 15; the first two are before the last parenthesis. */
const FIELD = { utime: 14 - 3, stime: 15 - 3, processor: 39 - 3 } as const;
const NS_PER_TICK = 1e9 / 100;

/** undefined for a thread that has ended. */
export function readThreadStat(threadId: number): ThreadStat | undefined {
  const stat = read(`/proc/self/task/${threadId}/stat`);
  if (stat === undefined) return undefined;
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const field = (at: number) => Number(fields[at] ?? 0);
  const schedstat = read(`/proc/self/task/${threadId}/schedstat`)?.split(' ');
  if (!schedstat || schedstat.length < 3) {
    // A host without CONFIG_SCHED_INFO: its clock ticks are 10 ms for user space.
    const ticks = field(FIELD.utime) + field(FIELD.stime);
    return { hostCpu: field(FIELD.processor), runtimeNs: ticks * NS_PER_TICK };
  }
  const [runtimeNs, waitNs] = [Number(schedstat[0]), Number(schedstat[1])];
  return { hostCpu: field(FIELD.processor), runtimeNs, waitNs };
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return undefined;
  }
}
