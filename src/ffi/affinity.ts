/** Which host CPUs a thread may run on. */
import { readFileSync } from 'node:fs';
import { MAX_HOST_CPUS, parseCpuList } from '../machine/cpu-list.ts';
import { checked, libc } from './libc.ts';

const MASK_BYTES = MAX_HOST_CPUS / 8;

/** sched_setaffinity(2); `threadId` 0 is the calling thread. Throws SyscallError. */
export function setThreadAffinity(threadId: number, cpus: readonly number[]): void {
  const mask = new Uint8Array(MASK_BYTES);
  for (const cpu of cpus) mask[cpu >> 3]! |= 1 << (cpu & 7);
  checked(
    libc.sched_setaffinity(threadId, MASK_BYTES, mask),
    'sched_setaffinity',
    () => 'see volt doctor for the CPUs of this host',
  );
}

/** sched_getaffinity(2). */
export function getThreadAffinity(threadId: number): number[] {
  const mask = new Uint8Array(MASK_BYTES);
  checked(libc.sched_getaffinity(threadId, MASK_BYTES, mask), 'sched_getaffinity');
  return Array.from({ length: MAX_HOST_CPUS }, (_, cpu) => cpu).filter(
    (cpu) => mask[cpu >> 3]! & (1 << (cpu & 7)),
  );
}

/** Host CPUs that are online. */
export function onlineCpus(): number[] {
  return parseCpuList(readFileSync('/sys/devices/system/cpu/online', 'utf8').trim()) ?? [0];
}
