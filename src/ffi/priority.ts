/** How much of the host's CPUs a thread gets beside others. */
import { ERRNO } from './errno.ts';
import { checked, libc } from './libc.ts';

const PRIO_PROCESS = 0;

/** setpriority(2) of one thread: Linux takes a thread id for a process. `nice` is from -20 to 19, 19 yielding most. */
export function setThreadNice(threadId: number, nice: number): void {
  checked(libc.setpriority(PRIO_PROCESS, threadId, nice), 'setpriority', (errno) =>
    errno === ERRNO.EACCES || errno === ERRNO.EPERM
      ? 'only root may raise a priority, or lower the nice value again'
      : undefined,
  );
}
