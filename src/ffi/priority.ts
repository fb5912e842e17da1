/** Scheduling priority of threads. (setpriority(2)) */
import { ERRNO } from './errno.ts';
import { checked, libc } from './libc.ts';

const PRIO_PROCESS = 0;

/**
 * Sets the nice value of one thread, from -20 (highest priority) to 19: Linux accepts a thread id for
 * PRIO_PROCESS. Throws SyscallError with advice.
 */
export function setThreadNice(threadId: number, nice: number): void {
  checked(libc.setpriority(PRIO_PROCESS, threadId, nice), 'setpriority', (errno) =>
    errno === ERRNO.EACCES || errno === ERRNO.EPERM ? 'only root may lower a nice value' : undefined,
  );
}
