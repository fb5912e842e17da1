/** CPU affinity of threads. (sched_setaffinity(2)) */
import { readFileSync } from 'node:fs';
import { MAX_HOST_CPUS, parseCpuList } from '../machine/cpu-list.ts';
import { checked, libc } from './libc.ts';

const MASK_BYTES = MAX_HOST_CPUS / 8;

/** sched_setaffinity(2); `threadId` 0 is the calling thread. Throws SyscallError. */
export function setThreadAffinity(threadId: number, cpus: readonly number[]): void {
  // SAFETY: the kernel reads MASK_BYTES bytes during the call.
  const mask = new Uint8Array(MASK_BYTES);
  for (const cpu of cpus) mask[cpu >> 3]! |= 1 << (cpu & 7);
  checked(
    libc.sched_setaffinity(threadId, MASK_BYTES, mask),
    'sched_setaffinity',
    () => 'see volt doctor for the CPUs of this host',
  );
}

/** sched_getaffinity(2): host CPUs, ascending; `threadId` 0 is the calling thread. Throws SyscallError. */
export function getThreadAffinity(threadId: number): number[] {
  // SAFETY: the kernel writes at most MASK_BYTES bytes during the call.
  const mask = new Uint8Array(MASK_BYTES);
  checked(libc.sched_getaffinity(threadId, MASK_BYTES, mask), 'sched_getaffinity');
  return Array.from({ length: MAX_HOST_CPUS }, (_, cpu) => cpu).filter(
    (cpu) => mask[cpu >> 3]! & (1 << (cpu & 7)),
  );
}

/** Online host CPUs, ascending. (Linux Documentation/ABI/stable/sysfs-devices-system-cpu) */
export function onlineCpus(): number[] {
  return parseCpuList(readFileSync('/sys/devices/system/cpu/online', 'utf8').trim()) ?? [0];
}
