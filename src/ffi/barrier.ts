/** membarrier(2). */
import { libc } from './libc.ts';

/** (asm/unistd_64.h, linux/membarrier.h) */
const SYS_MEMBARRIER = 324;
const GLOBAL = 1;
const PRIVATE_EXPEDITED = 8;

/**
 * A full memory barrier on every thread of this process: what they wrote before is visible after it. The
 * runtime has registered for the quick form; the other takes milliseconds.
 */
export function processBarrier(): void {
  if (libc.syscall(SYS_MEMBARRIER, PRIVATE_EXPEDITED, 0, 0, 0, 0, 0) < 0)
    libc.syscall(SYS_MEMBARRIER, GLOBAL, 0, 0, 0, 0, 0);
}
