/** Scheduling priority of threads. (setpriority(2)) */
import { ERRNO } from './errno.ts';
import { checked, libc } from './libc.ts';

const PRIO_PROCESS = 0;

/**
 * Sets the nice value of the calling thread, from -20 (highest priority) to 19: the sandbox allows no other.
 * Linux applies PRIO_PROCESS to a thread. Throws SyscallError with advice.
 */
export function setOwnNice(nice: number): void {
  checked(libc.setpriority(PRIO_PROCESS, 0, nice), 'setpriority', niceAdvice);
}

export function niceAdvice(errno: number): string | undefined {
  return errno === ERRNO.EACCES || errno === ERRNO.EPERM
    ? 'lowering it takes root with --no-sandbox, or ulimit -e'
    : undefined;
}
