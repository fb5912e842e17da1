/** CPU affinity of threads. (sched_setaffinity(2)) */
import { readFileSync } from 'node:fs';
import { MAX_HOST_CPUS, parseCpuList } from '../machine/cpu-list.ts';
import { checked, libc } from './libc.ts';

export const CPU_MASK_BYTES = MAX_HOST_CPUS / 8;

/**
 * sched_setaffinity(2) of the calling thread: the sandbox allows no other. `mask` is a cpu_set_t. Throws
 * SyscallError.
 */
export function setOwnAffinity(mask: Uint8Array): void {
  // SAFETY: the kernel reads the mask's bytes during the call.
  checked(libc.sched_setaffinity(0, mask.length, mask), 'sched_setaffinity', () => AFFINITY_ADVICE);
}

export const AFFINITY_ADVICE = 'see volt doctor for the CPUs of this host';

/** A cpu_set_t with these host CPUs. (sched_setaffinity(2)) */
export function cpuMask(cpus: readonly number[]): Uint8Array<ArrayBuffer> {
  const mask = new Uint8Array(CPU_MASK_BYTES);
  for (const cpu of cpus) mask[cpu >> 3]! |= 1 << (cpu & 7);
  return mask;
}

/** sched_getaffinity(2): host CPUs, ascending; `threadId` 0 is the calling thread. Throws SyscallError. */
export function getThreadAffinity(threadId: number): number[] {
  // SAFETY: the kernel writes at most CPU_MASK_BYTES bytes during the call.
  const mask = new Uint8Array(CPU_MASK_BYTES);
  checked(libc.sched_getaffinity(threadId, CPU_MASK_BYTES, mask), 'sched_getaffinity');
  return Array.from({ length: MAX_HOST_CPUS }, (_, cpu) => cpu).filter(
    (cpu) => mask[cpu >> 3]! & (1 << (cpu & 7)),
  );
}

/** Online host CPUs, ascending. (Linux Documentation/ABI/stable/sysfs-devices-system-cpu) */
export function onlineCpus(): number[] {
  return parseCpuList(readFileSync('/sys/devices/system/cpu/online', 'utf8').trim()) ?? [0];
}
