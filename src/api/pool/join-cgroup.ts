/** Moves this process into another process's cgroup of the unified hierarchy. (cgroups(7)) */
import { existsSync, writeFileSync } from 'node:fs';
import { readCgroup } from './process-context.ts';

/** Where the unified hierarchy is mounted, alone or beside those of version 1. */
const MOUNTS = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'];

/**
 * `cgroup` is the text of the other's /proc/PID/cgroup. False where this process may not move, or would differ from it in
 * a hierarchy of version 1; it may have moved then, but never partly.
 */
export function joinCgroupOf(cgroup: string): boolean {
  const unified = /^0::(\/.*)$/m.exec(cgroup)?.[1];
  if (unified === undefined || unified.includes('..')) return false;
  const mount = MOUNTS.find((path) => existsSync(`${path}/cgroup.procs`));
  if (mount === undefined) return false;
  try {
    writeFileSync(`${mount}${unified}/cgroup.procs`, '0');
  } catch {
    return false;
  }
  return readCgroup('self') === cgroup;
}
