/**
 * The host scheduler's counters of a thread of this process. (proc(5); Linux
 * Documentation/scheduler/sched-stats.rst)
 */
import { readFileSync } from 'node:fs';

export interface ThreadStat {
  /** Host CPU that the thread runs on, or ran on last. */
  readonly hostCpu: number;
  /** Time on a host CPU, in nanoseconds. */
  readonly runtimeNs: number;
  /**
   * Time on a run queue, waiting for a host CPU, in nanoseconds; missing on a host without CONFIG_SCHED_INFO.
   */
  readonly waitNs?: number;
}

/** Time on host CPUs in seconds, in steps of 10 ms. Linux counts guest time as user time too. */
export interface ThreadTimes {
  readonly user: number;
  readonly system: number;
  readonly guest: number;
}

/** Fields of /proc/PID/task/TID/stat by their numbers in proc(5), which count from 1. */
const FIELD = { utime: 14, stime: 15, processor: 39, guestTime: 43 } as const;
/** Number of the first field behind the thread's name, which may contain spaces and parentheses. */
const FIRST_AFTER_NAME = 3;
/** USER_HZ on x86. */
const TICKS_PER_SECOND = 100;

/** Returns undefined for a thread that has ended. */
export function readThreadStat(threadId: number): ThreadStat | undefined {
  const field = readStatFields(threadId);
  if (field === undefined) return undefined;
  const hostCpu = field('processor');
  const schedstat = read(`/proc/self/task/${threadId}/schedstat`)?.split(' ');
  if (!schedstat || schedstat.length < 3) {
    const ticks = field('utime') + field('stime');
    return { hostCpu, runtimeNs: ticks * (1e9 / TICKS_PER_SECOND) };
  }
  return { hostCpu, runtimeNs: Number(schedstat[0]), waitNs: Number(schedstat[1]) };
}

/** Returns undefined for a thread that has ended. */
export function readThreadTimes(threadId: number): ThreadTimes | undefined {
  const field = readStatFields(threadId);
  if (field === undefined) return undefined;
  const seconds = (name: keyof typeof FIELD) => field(name) / TICKS_PER_SECOND;
  return { user: seconds('utime'), system: seconds('stime'), guest: seconds('guestTime') };
}

function readStatFields(threadId: number): ((name: keyof typeof FIELD) => number) | undefined {
  const stat = read(`/proc/self/task/${threadId}/stat`);
  if (stat === undefined) return undefined;
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (name) => Number(fields[FIELD[name] - FIRST_AFTER_NAME] ?? 0);
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return undefined;
  }
}
